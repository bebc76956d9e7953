"""How far apart things are, in three numbers. Knows nothing of what it measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread_ms(distance_us: NDArray[np.int64]) -> dict[str, float] | None:
    """Return the median, the 95th percentile and the largest of some distances.

    Each is one of the distances, not a value between two: the one below which 50 % or 95 % of
    them lie (`sorted[n * percent // 100]`).

    Args:
        distance_us: (K,) int64, not negative.
    Returns:
        {"p50", "p95", "max"} in milliseconds; None where there are no distances.
    """
    count = len(distance_us)
    if not count:
        return None
    places = {"p50": count * 50 // 100, "p95": count * 95 // 100, "max": count - 1}
    ordered = np.partition(distance_us, sorted(set(places.values())))
    return {name: int(ordered[place]) / 1000 for name, place in places.items()}
