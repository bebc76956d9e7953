"""Middle and spread of times, exact to the microsecond. Knows nothing of what they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread_ms(distance_us: NDArray[np.int64]) -> dict[str, float]:
    """Return the median, the 95th percentile and the largest of some distances.

    Each is one of the distances, not a value between two: the one below which 50 % or 95 % of
    them lie (`sorted[n * percent // 100]`).

    Args:
        distance_us: (K,) int64, not negative, K at least 1.
    Returns:
        {"p50", "p95", "max"} in milliseconds.
    """
    count = len(distance_us)
    places = {"p50": count * 50 // 100, "p95": count * 95 // 100, "max": count - 1}
    ordered = np.partition(distance_us, sorted(set(places.values())))
    return {name: int(ordered[place]) / 1000 for name, place in places.items()}


def median_us(values_us: NDArray[np.int64 | np.uint64]) -> int:
    """Return the median of (K,) 64-bit integers, K at least 1: exact, a half rounded down."""
    low, high = (len(values_us) - 1) // 2, len(values_us) // 2
    ordered = np.partition(values_us, (low, high))
    return (int(ordered[low]) + int(ordered[high])) // 2
