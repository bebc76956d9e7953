"""Choose the moments to show pictures of: where the player did most. Numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playmill.dataset import Dataset
from playmill.report.alignment import latency_us
from playmill.report.timeline import ONLY_FRAME_US

MAX_MOMENTS = 8
MOMENT_US = 2_000_000
"""A session has a moment for each of these, up to `MAX_MOMENTS`."""
BUSY_US = 1_000_000
"""Over how long business is summed up."""
PICTURES_US = (-100_000, 0, 100_000, 200_000)
"""Where, from a moment's middle, pictures are taken."""
BEFORE_US, AFTER_US = 500_000, 700_000
"""What a moment's strip shows, from its middle."""
MAX_STRIP_FRAMES = 400
MAX_STRIPS = 8
_BLOCK = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One key or button during a moment."""

    name: str
    """As the log has it; of a button "left button"."""
    down: tuple[tuple[int, int], ...]
    """Stretches of frames at which it is down, from first to after the last, by frame index."""
    presses_us: tuple[int, ...]
    """Times t' of its events, on the recording's clock, as they were logged."""
    releases_us: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A short stretch of the session."""

    middle_us: int
    """On the recording's clock: the time of its busiest frame."""
    pictures: tuple[int, ...]
    """Frames to show, ascending."""
    first: int
    """First frame of the strip."""
    edges_us: tuple[int, ...]
    """On the recording's clock: when each frame of the strip begins, and when the last one ends."""
    mouse: tuple[float, ...]
    """|dx| + |dy| of each frame of the strip."""
    strips: tuple[Strip, ...]
    """The most pressed keys, then buttons, up to `MAX_STRIPS`."""
    num_used: int
    """Keys and buttons that were down in the strip's time, drawn or not."""
    presses: int
    """Presses of keys and buttons within the strip."""

    @property
    def stop(self) -> int:
        """Frame after the last of the strip."""
        return self.first + len(self.mouse)


def choose(dataset: Dataset, *, reachable: NDArray[np.bool_] | None = None) -> tuple[Moment, ...]:
    """Return the busiest moment of each of up to `MAX_MOMENTS` equal parts of the session.

    Args:
        reachable: (N,) frames that a moment may be about; None: all.
    """
    times = dataset.timestamps_us
    if reachable is None:
        reachable = np.ones(len(times), np.bool_)
    own = _business(dataset)
    total = np.append(0.0, np.cumsum(own))
    near = np.searchsorted(times, [times - BUSY_US // 2, times + BUSY_US // 2])
    busy = total[near[1]] - total[near[0]]
    length_us = int(times[-1] - times[0])
    num_parts = min(max(length_us // MOMENT_US, 1), MAX_MOMENTS)
    bounds = np.searchsorted(times, np.linspace(times[0], times[-1] + 1, num_parts + 1))
    middles: list[int] = []
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        frames = start + np.flatnonzero(reachable[start:stop])
        if not len(frames):
            continue
        middle = _middle(times, frames, busy, own)
        if not middles or times[middle] - times[middles[-1]] >= BUSY_US // 2:
            middles.append(middle)
    usual_us = round(float(np.median(np.diff(times)))) if len(times) > 1 else ONLY_FRAME_US
    return tuple(_moment(dataset, middle, usual_us) for middle in middles)


def _middle(
    times: NDArray[np.int64],
    frames: NDArray[np.int64],
    busy: NDArray[np.float64],
    own: NDArray[np.float64],
) -> int:
    busiest = int(frames[np.argmax(busy[frames])])
    if not busy[busiest]:
        return int(frames[len(frames) // 2])
    near = frames[np.abs(times[frames] - times[busiest]) <= BUSY_US // 2]
    return int(near[np.argmax(own[near])])


def _business(dataset: Dataset) -> NDArray[np.float64]:
    """Return how much the player did at each frame: mouse moves count little beside presses."""
    business = np.zeros(len(dataset))
    for name in ("key_presses", "key_releases", "button_presses", "button_releases"):
        node = dataset.h5[f"/actions/{name}"]
        for start in range(0, len(dataset), _BLOCK):
            rows = slice(start, start + _BLOCK)
            business[rows] += np.minimum(node[rows], 3).sum(axis=1)
    for name in ("mouse", "scroll"):
        size = np.abs(dataset.actions(name)).sum(axis=1, dtype=np.float64)
        usual = float(np.median(size[size > 0])) if size.any() else 1.0
        business += 0.25 * np.minimum(size / usual, 2)
    return business


def _moment(dataset: Dataset, middle: int, usual_us: int) -> Moment:
    times = dataset.timestamps_us
    middle_us = int(times[middle])
    wanted = np.searchsorted(times, [middle_us + us for us in PICTURES_US], side="right") - 1
    first = max(int(np.searchsorted(times, middle_us - BEFORE_US)), middle - MAX_STRIP_FRAMES // 2)
    stop = min(int(np.searchsorted(times, middle_us + AFTER_US)), middle + MAX_STRIP_FRAMES // 2)
    rows = slice(first, stop)
    used = [_used(dataset, one, rows) for one in ("key", "button")]
    drawn = [("key", name) for name in used[0]] + [("button", name) for name in used[1]]
    return Moment(
        middle_us=middle_us,
        pictures=tuple(sorted({max(frame, 0) for frame in wanted.tolist()})),
        first=first,
        edges_us=(*times[rows].tolist(), _end_us(times, stop, usual_us)),
        mouse=tuple(np.abs(dataset.actions("mouse")[rows]).sum(axis=1, dtype=np.float64).tolist()),
        strips=tuple(_strip(dataset, one, column, rows) for one, column in drawn[:MAX_STRIPS]),
        num_used=len(drawn),
        presses=sum(
            int(dataset.h5[f"/actions/{one}_presses"][rows].sum()) for one in ("key", "button")
        ),
    )


def _end_us(times: NDArray[np.int64], stop: int, usual_us: int) -> int:
    """Return when frame `stop` - 1 ceases to be shown; before a gap, after the usual time."""
    last = int(times[stop - 1])
    return last + usual_us if stop == len(times) else min(int(times[stop]), last + 2 * usual_us)


def _used(dataset: Dataset, one: str, rows: slice) -> list[int]:
    """Return the columns of what is down in `rows`, the most pressed first."""
    down = dataset.h5[f"/actions/{one}s_any"][rows].any(axis=0)
    presses = dataset.h5[f"/actions/{one}_presses"][rows].sum(axis=0, dtype=np.int64)
    return sorted(np.flatnonzero(down).tolist(), key=lambda column: -int(presses[column]))


def _strip(dataset: Dataset, one: str, column: int, rows: slice) -> Strip:
    name = dataset.names(f"/actions/{one}s")[column]
    down = dataset.h5[f"/actions/{one}s_any"][rows, column] != 0
    presses, releases = _event_times(dataset, name, one, rows)
    return Strip(
        name=name if one == "key" else f"{name} button",
        down=tuple((a + rows.start, b + rows.start) for a, b in runs(down)),
        presses_us=presses,
        releases_us=releases,
    )


def _event_times(
    dataset: Dataset, name: str, one: str, rows: slice
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return when `name` was pressed and released in the time of frames `rows`, as t'."""
    times = dataset.timestamps_us
    shift = latency_us(dataset)
    span = [int(times[rows.start]) - shift, int(times[rows.stop - 1]) - shift]
    start, stop = np.searchsorted(dataset.array("/inputs/timestamp_us"), span)
    device = dataset.array("/inputs/device")[start:stop]
    names = dataset.array("/inputs/codes")
    code = dataset.array("/inputs/code")[start:stop]
    kinds = dataset.array("/inputs/kind")[start:stop]
    kind_names = dataset.names("/inputs/kind")
    devices = dataset.names("/inputs/device")
    keyboard = devices.index("keyboard")
    wanted = [index for index, text in enumerate(names) if text.decode() == name]
    mine = np.isin(code, wanted) & ((device == keyboard) == (one == "key"))
    at = dataset.array("/inputs/timestamp_us")[start:stop] + shift
    return (
        tuple(at[mine & (kinds == kind_names.index("press"))].tolist()),
        tuple(at[mine & (kinds == kind_names.index("release"))].tolist()),
    )


def runs(values: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the stretches in which `values` is true, as (first, after the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
