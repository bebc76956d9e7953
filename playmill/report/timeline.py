"""A whole session in a bounded number of bins: what was held, moved, missing. Numbers alone.

Memory and size do not grow with the recording: arrays with a row a frame are read bin by bin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.dataset import Dataset
from playmill.report.alignment import latency_us
from playmill.schema import FRAME_FLAGS, frame_flag

MAX_BINS = 600
MAX_KEYS = 16
MAX_BUTTONS = 8
MAX_AXES = 6
ONLY_FRAME_US = 1_000_000
"""How long the one frame of a session counts as shown."""

Bins = NDArray[np.float64]
"""(B,) one value a bin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """One key or button over the session."""

    name: str
    presses: int
    share: float
    """Of the time with pictures, how much it was down."""
    bins: Bins
    """Share of each bin that it was down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A stretch without pictures, where there should have been some."""

    at_us: int
    """Since the first frame."""
    length_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """One session, in B bins of equal length."""

    start_us: int
    stop_us: int
    """When the last frame ceases to be shown."""
    frame_us: float
    """Usual time from one frame to the next."""
    keys: tuple[Held, ...]
    """The most pressed ones, the most pressed first."""
    buttons: tuple[Held, ...]
    num_keys: int
    num_buttons: int
    mouse: Bins
    """Sum of |dx| + |dy|."""
    scroll: Bins
    """Sum of |x| + |y|."""
    axes: tuple[tuple[str, Bins], ...]
    """Mean |value| of each axis over the time with pictures."""
    invalid: Bins
    """Share of each bin that shows frames whose `valid` is 0."""
    flags: Mapping[str, Bins]
    """The same for frames with a flag, by its name; flags that occur, gaps not among them."""
    gap: Bins
    """Share of the bin without pictures."""
    unassigned: Bins
    """Events that belong to no frame."""
    gaps: tuple[Gap, ...]
    """All of them, by time."""

    @property
    def length_us(self) -> int:
        """Length of the session."""
        return self.stop_us - self.start_us


def build(dataset: Dataset, *, max_bins: int = MAX_BINS) -> Timeline:
    """Measure `dataset` in at most `max_bins` bins."""
    times = dataset.timestamps_us
    shown_until, frame_us = _shown_until(times, dataset.flags)
    stop_us = int(shown_until[-1])
    # Since the first frame: floats hold those exactly, and no Unix time in microseconds.
    edges = np.linspace(0, stop_us - int(times[0]), max_bins + 1)
    overlaps = _Overlaps(times - times[0], shown_until - times[0], edges)
    shown = overlaps.shown()
    width = overlaps.bin_us
    visible = np.where(shown > 0, shown / width, 1.0)
    flags = {name: _flagged(dataset, overlaps, name) for name in FRAME_FLAGS}
    return Timeline(
        start_us=int(times[0]),
        stop_us=stop_us,
        frame_us=frame_us,
        keys=_held(dataset, overlaps, shown, "key", MAX_KEYS),
        buttons=_held(dataset, overlaps, shown, "button", MAX_BUTTONS),
        num_keys=len(dataset.key_names),
        num_buttons=len(dataset.button_names),
        mouse=overlaps.sums(np.abs(dataset.actions("mouse")).sum(axis=1, dtype=np.float64)),
        scroll=overlaps.sums(np.abs(dataset.actions("scroll")).sum(axis=1, dtype=np.float64)),
        axes=tuple(
            (name, overlaps.shares(np.abs(dataset.actions("axes")[:, column])) / visible)
            for column, name in enumerate(dataset.axis_names[:MAX_AXES])
        ),
        invalid=overlaps.shares(dataset.actions("valid") == 0),
        flags={n: bins for n, bins in flags.items() if n != "gap_before" and bins.any()},
        gap=np.clip(1 - shown / width, 0, 1) * (shown < width * (1 - 1e-6)),
        unassigned=_unassigned(dataset, edges),
        gaps=_gaps(times, shown_until),
    )


def _shown_until(
    times: NDArray[np.int64], flags: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], float]:
    """Return when each frame ceases to be shown, and the usual time from frame to frame.

    A frame before a gap, and the last one, are shown for as long as frames usually are.
    """
    if len(times) == 1:
        return times + ONLY_FRAME_US, float(ONLY_FRAME_US)
    usual = float(np.median(np.diff(times)))
    until = np.append(times[1:], times[-1] + round(usual))
    before_gap = np.append(flags[1:] & frame_flag("gap_before") != 0, False)
    until[before_gap] = np.minimum(until, times + round(usual))[before_gap]
    return until, usual


def _gaps(times: NDArray[np.int64], shown_until: NDArray[np.int64]) -> tuple[Gap, ...]:
    before = np.flatnonzero(shown_until[:-1] < times[1:])
    return tuple(
        Gap(at_us=at, length_us=length)
        for at, length in zip(
            (shown_until[before] - times[0]).tolist(),
            (times[before + 1] - shown_until[before]).tolist(),
            strict=True,
        )
    )


class _Overlaps:
    """For each bin, which frames are shown in it and for how long."""

    def __init__(
        self, times: NDArray[np.int64], shown_until: NDArray[np.int64], edges: NDArray[np.float64]
    ) -> None:
        self._times, self._until, self._edges = times, shown_until, edges
        self._first = np.maximum(np.searchsorted(times, edges[:-1], side="right") - 1, 0)
        self._last = np.maximum(np.searchsorted(times, edges[1:], side="left"), self._first + 1)
        begin = np.searchsorted(times, edges[:-1], side="left")
        self._owner = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(times))))

    def __len__(self) -> int:
        return len(self._first)

    @property
    def bin_us(self) -> float:
        """Length of a bin."""
        return float(self._edges[1] - self._edges[0])

    def rows(self, index: int) -> tuple[slice, NDArray[np.float64]]:
        """Return the frames of bin `index`, and how long each is shown in it, in microseconds."""
        rows = slice(int(self._first[index]), int(self._last[index]))
        begin = np.maximum(self._times[rows], self._edges[index])
        end = np.minimum(self._until[rows], self._edges[index + 1])
        return rows, np.maximum(end - begin, 0.0)

    def shown(self) -> Bins:
        """Return how long each bin shows pictures, in microseconds."""
        return np.array([self.rows(index)[1].sum() for index in range(len(self))])

    def sums(self, values: NDArray[np.float64]) -> Bins:
        """Return the sum of a value a frame, over the frames that begin in each bin."""
        return np.bincount(self._owner, values, minlength=len(self)).astype(np.float64)

    def shares(self, values: NDArray[Any]) -> Bins:
        """Return the mean of a value a frame over all of each bin; without a picture it is 0."""
        found = np.zeros(len(self))
        for index in range(len(self)):
            rows, us = self.rows(index)
            found[index] = us @ values[rows]
        return found / self.bin_us


def _flagged(dataset: Dataset, overlaps: _Overlaps, name: str) -> Bins:
    return overlaps.shares(dataset.flags & frame_flag(name) != 0)


def _held(
    dataset: Dataset, overlaps: _Overlaps, shown: Bins, one: str, limit: int
) -> tuple[Held, ...]:
    names = dataset.names(f"/actions/{one}s")
    if not names:
        return ()
    down, presses = dataset.h5[f"/actions/{one}s_any"], dataset.h5[f"/actions/{one}_presses"]
    held = np.zeros((len(overlaps), len(names)))
    for index in range(len(overlaps)):
        rows, us = overlaps.rows(index)
        held[index] = us @ down[rows]
    pressed = np.zeros(len(names), np.int64)
    for start in range(0, len(dataset), 1 << 16):
        pressed += presses[start : start + (1 << 16)].sum(axis=0, dtype=np.int64)
    width = overlaps.bin_us
    order = np.lexsort((np.arange(len(names)), -held.sum(axis=0), -pressed))[:limit]
    return tuple(
        Held(
            name=names[column],
            presses=int(pressed[column]),
            share=float(held[:, column].sum() / max(shown.sum(), 1.0)),
            bins=held[:, column] / width,
        )
        for column in order.tolist()
    )


def _unassigned(dataset: Dataset, edges: NDArray[np.float64]) -> Bins:
    """Count events without a frame; those outside the video in the first and the last bin."""
    lost = dataset.array("/inputs/timestamp_us")[dataset.array("/sync/frame") < 0]
    # Python's integers do not overflow where an event lies as far away as int64 can say.
    zero = int(dataset.timestamps_us[0]) - latency_us(dataset)
    times = np.clip([float(us - zero) for us in lost.tolist()], edges[0], edges[-1])
    return np.histogram(times, edges)[0].astype(np.float64)
