"""Masks of logs whose lines belong to frames: a run of lines becomes one span of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playmill.inputs.events import Mask


def line_masks(name: str, flagged: NDArray[np.bool_], time_us: NDArray[np.int64]) -> list[Mask]:
    """Return one mask for each run of flagged lines, from its first time to its last one.

    Args:
        name: one of MASKS.
        flagged: (L,) which lines it is true of.
        time_us: (L,) their times, strictly ascending.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flagged, [False]))))
    starts, stops = time_us[edges[::2]].tolist(), time_us[edges[1::2] - 1].tolist()
    return [
        Mask(name=name, start_us=start, stop_us=stop + 1)
        for start, stop in zip(starts, stops, strict=True)
    ]
