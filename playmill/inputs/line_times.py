"""Logs whose lines belong to frames by order: when a line is, and masks of runs of lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playmill.inputs.events import Mask

MAX_STEP_US = 1 << 40
"""Longest time between two lines that is believed: about 13 days."""


@dataclass(kw_only=True, slots=True)
class LineTimes:
    """When each line was: at its frame, else as long after the line before as the log says."""

    frames: list[int]
    """Time of the frame of each line; [] for a log without its video."""
    tick_us: int
    """Time from line to line where the log does not say it."""
    count: int = 0
    last_us: int = 0
    last_logged_us: int | None = None

    def next(self, logged_us: int | None) -> int:
        """Return the time of the next line.

        Args:
            logged_us: what the log says it is, on any clock; None: nothing.
        """
        if self.count < len(self.frames):
            time_us = self.frames[self.count]
        elif not self.count:
            time_us = logged_us or 0
        elif logged_us is None or self.last_logged_us is None:
            time_us = self.last_us + self.tick_us
        else:
            time_us = self.last_us + min(max(logged_us - self.last_logged_us, 1), MAX_STEP_US)
        self.count += 1
        self.last_us, self.last_logged_us = time_us, logged_us
        return time_us


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
