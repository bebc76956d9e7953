"""Where a clock jumps: lasting changes of level in a noisy series. Knows no format."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

MIN_STEP_US = 20_000
"""A smaller change is no step: logs are in ms, and some clocks tick every 15.6 ms."""
MAX_STEPS = 32
"""So many are looked for, largest first: a clock that jumps more often is none."""
WINDOW_US = 5_000_000
"""A level is that of so much time, or of a twelfth of a short recording."""

_MIN_SAMPLES = 5
_NOISE_FACTOR = 6
_SIGMA = 1.4826
"""Standard deviation of normal noise over the median of its absolute values."""


def find_steps(at_us: NDArray[np.int64], level_us: NDArray[np.float64]) -> list[int]:
    """Return the first sample of every new level but the first, ascending.

    A step is where the medians of the windows before and after it differ by MIN_STEP_US or more,
    and by several times the noise. As they are medians, almost half of a window may be wrong: an
    outlier, or a burst of late samples shorter than half a window, is no step. Nor is what lies
    less than a window from either end.

    Args:
        at_us: (K,) int64, ascending.
        level_us: (K,) float64, the series with any trend taken out.
    """
    window = _window(at_us)
    stride = max(1, window // 4)
    window = window // stride * stride
    if len(at_us) < 2 * window:
        return []
    # (J,) float64: medians of the windows that begin at samples 0, stride, 2 * stride, ...
    medians = np.median(sliding_window_view(level_us, window)[::stride], axis=1)
    apart = window // stride
    change = medians[apart:] - medians[:-apart]
    # Steps are few, so the median of all changes is noise, fast or slow.
    noise = _SIGMA * float(np.median(np.abs(change))) if len(change) else 0.0
    least = max(MIN_STEP_US, _NOISE_FACTOR * noise)
    steps: list[int] = []
    while len(change) and len(steps) < MAX_STEPS:
        place = int(np.argmax(np.abs(change)))
        if abs(change[place]) < least:
            break
        change[place] = 0
        step = _locate(level_us, place * stride, window)
        # One step shows in all windows around it.
        if all(abs(step - other) >= window // 2 for other in steps):
            steps.append(step)
    return sorted(steps)


def _window(at_us: NDArray[np.int64]) -> int:
    """Return how many samples a window has."""
    span_us = int(at_us[-1]) - int(at_us[0]) if len(at_us) else 0
    if not span_us:
        return _MIN_SAMPLES
    return max(_MIN_SAMPLES, len(at_us) * min(WINDOW_US, span_us // 12) // span_us)


def _locate(level_us: NDArray[np.float64], start: int, window: int) -> int:
    """Return the first sample that is nearer to the later of two adjacent windows' levels."""
    near = level_us[start : start + 2 * window]
    before, after = float(np.median(near[:window])), float(np.median(near[window:]))
    side = np.sign(near - (before + after) / 2) * np.sign(before - after)
    return start + 1 + int(np.argmax(np.cumsum(side)))
