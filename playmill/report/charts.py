"""Draw numbers as inline SVG without any text: labels are HTML beside it, and never shrink.

Every chart fills its box: x runs from 0 to `WIDTH`, y from 0 (top) to `HEIGHT`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from playmill.report.markup import Markup, join, tag

WIDTH, HEIGHT = 1000, 100
LEVELS = 6
"""Shades of a share, in equal steps of its root: in an hour's bins of seconds most shares are
small, and are to be told apart."""


def svg(*shapes: object, label: str, class_: str) -> Markup:
    """Return a chart that is stretched to its box; `label` says what it shows."""
    return tag(
        "svg",
        *shapes,
        class_=f"chart {class_}",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def bars(spans: Iterable[tuple[float, float]], *, class_: str) -> Markup | None:
    """Return bars of full height over `spans` of x; None for none."""
    steps = [f"M{_x(x0)} 0H{_x(max(x1, x0 + 1))}V{HEIGHT}H{_x(x0)}z" for x0, x1 in spans]
    return tag("path", d=Markup("".join(steps)), class_=class_) if steps else None


def marks(
    places: Iterable[float], *, class_: str, top: float = 0, bottom: float = HEIGHT
) -> Markup | None:
    """Return upright lines at `places` of x, each once where it is drawn; None for none."""
    steps = dict.fromkeys(f"M{_x(x)} {top:g}V{bottom:g}" for x in places)
    return tag("path", d=Markup("".join(steps)), class_=f"line {class_}") if steps else None


def shades(shares: NDArray[np.float64], *, class_: str) -> Markup:
    """Return a strip that is the darker the larger the share of a bin; above 0 always shows."""
    level = np.ceil(np.sqrt(np.clip(shares, 0, 1)) * LEVELS).astype(int)
    edges = np.flatnonzero(np.diff(level, prepend=-1, append=-1))
    scale = WIDTH / max(len(level), 1)
    spans: dict[int, list[tuple[float, float]]] = {}
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        spans.setdefault(int(level[start]), []).append((start * scale, stop * scale))
    spans.pop(0, None)
    return join(bars(spans[n], class_=f"{class_} shade{n}") for n in sorted(spans))


def columns(values: NDArray[np.float64], *, class_: str, largest: float | None = None) -> Markup:
    """Return a column for each value, from the bottom; `largest` has full height."""
    top = float(values.max(initial=0)) if largest is None else largest
    if top <= 0:
        return Markup()
    scale = WIDTH / len(values)
    heights = np.clip(values / top, 0, 1) * HEIGHT
    heights[(values > 0) & (heights < 2)] = 2  # what is there can be seen
    steps = [
        f"M{_x(i * scale)} {HEIGHT}V{HEIGHT - height:.1f}H{_x((i + 1) * scale)}V{HEIGHT}z"
        for i, height in enumerate(heights.tolist())
        if height
    ]
    return tag("path", d=Markup("".join(steps)), class_=class_)


def blocks(spans: Sequence[tuple[float, float, float]], *, class_: str) -> Markup:
    """Return a column for each (x, x after it, value); the largest value has full height."""
    top = max((value for _, _, value in spans), default=0)
    steps = [
        f"M{_x(x0)} {HEIGHT}V{HEIGHT * (1 - value / top):.1f}H{_x(x1)}V{HEIGHT}z"
        for x0, x1, value in spans
        if value > 0
    ]
    return tag("path", d=Markup("".join(steps)), class_=class_) if steps else Markup()


def curve(xs: Sequence[float], ys: Sequence[float], *, class_: str) -> Markup:
    """Return a line through points, which are given as shares of the width and the height."""
    points = " ".join(
        f"{_x(x * WIDTH)},{HEIGHT * (1 - y):.1f}" for x, y in zip(xs, ys, strict=True)
    )
    return tag("polyline", points=Markup(points), class_=f"line {class_}")


def arrow(dx: float, dy: float) -> Markup:
    """Return an arrow from the middle of a picture; (1, 0) reaches to its side."""
    x, y = dx * 90, dy * 90
    length = float(np.hypot(x, y)) or 1.0
    ux, uy = x / length * 14, y / length * 14
    head = f"M{x:.1f} {y:.1f}L{x - ux - uy / 2:.1f} {y - uy + ux / 2:.1f}"
    head += f"L{x - ux + uy / 2:.1f} {y - uy - ux / 2:.1f}z"
    shaft = f"M0 0L{x - ux * 0.8:.1f} {y - uy * 0.8:.1f}"
    return tag(
        "svg",
        tag("path", d=shaft, class_="under"),
        tag("path", d=head, class_="under"),
        tag("path", d=shaft, class_="over"),
        tag("path", d=head, class_="over head"),
        class_="arrow",
        viewBox="-100 -100 200 200",
        aria_hidden="true",
    )


def _x(x: float) -> str:
    return f"{x:.2f}".rstrip("0").rstrip(".")
