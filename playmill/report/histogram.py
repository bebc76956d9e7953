"""The distances of events from their frames, as a chart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playmill.report import charts, figures, strips
from playmill.report.markup import Markup, tag

NUM_BINS = 60
_FAR = 99.5
"""Percentile beyond which distances do not stretch the chart much."""


def draw(distances_us: NDArray[np.int64]) -> Markup | None:
    """Return the histogram of (S,) distances t' - t[frame], in microseconds; None for none."""
    if not len(distances_us):
        return None
    off = distances_us / 1000
    low, high = _bounds(off)
    counts, edges = np.histogram(np.clip(off, low, high), NUM_BINS, (low, high))
    beyond = int(((off < low) | (off > high)).sum())
    middle = (low + high) / 2
    zero = (0 - low) / (high - low) * charts.WIDTH
    marks = [zero] if 0 < zero < charts.WIDTH else []
    picture = charts.svg(
        charts.columns(counts.astype(np.float64), class_="key"),
        charts.marks(marks, class_="thin"),
        label=f"Histogram of {len(off)} distances from {low:.3g} to {high:.3g} ms; most often"
        f" {edges[counts.argmax()]:.3g} to {edges[counts.argmax() + 1]:.3g} ms",
        class_="big",
    )
    note = f" {figures.plural(beyond, 'event')} beyond are in the outer columns." if beyond else ""
    return tag(
        "div",
        picture,
        strips.scale(figures.ms(low), figures.ms(middle), figures.ms(high)),
        tag(
            "p",
            "Time of each assigned event minus the time of its frame; the tallest column is"
            f" {figures.plural(int(counts.max()), 'event')}.{note}",
            class_="muted",
        ),
    )


def _bounds(off: NDArray[np.float64]) -> tuple[float, float]:
    """Return what the chart spans: all of it, unless a few lie very far out."""
    low, high = float(off.min()), float(off.max())
    near, far = (float(value) for value in np.percentile(off, (100 - _FAR, _FAR)))
    room = max((far - near) * 1.5, 1.0)
    low, high = max(min(low, 0.0), near - room), min(max(high, 0.0), far + room)
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)
