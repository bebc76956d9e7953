"""Gives input events to frames, by a named policy. Knows no file format and no device.

Every policy comes down to one half-open span of time for each frame; the spans are disjoint and
ascend with the frames, so that assignment is two searches. docs/time-and-sync.md has the rules.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from playmill.config import LINE_POLICY, POLICIES, Policy

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
"""In a span: minus and plus infinity. INT64_MIN is no event time; INT64_MAX is a good one."""
_UINT64_MAX = 2**64 - 1
BLOCK_EVENTS = 1 << 16
"""Events that are worked on at a time. What is made of them stays in the processor's cache, from
the first step to the last."""
BLOCK_CELLS = 1 << 18
"""Numbers of frames that are worked on at a time."""

Bounds = tuple[NDArray[np.uint64], NDArray[np.uint64]]
_Places = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alignment:
    """Which events are which frame's. assigned + unassigned = M."""

    frame: NDArray[np.int64]
    """(M,) the frame of each event, -1 where none."""
    offsets: NDArray[np.int64]
    """(N+1,) events[offsets[i]:offsets[i+1]] are frame i's events."""
    events: NDArray[np.int64]
    """(K,) indices of the assigned events, by frame and then in time order."""
    begin: NDArray[np.int64]
    """(N,) how many events lie before frame i's span; ascending."""
    policy: Policy
    """The rule."""
    window_us: int | None
    """Largest |t' - t[i]| of an assigned event; None: unbounded."""
    latency_us: int
    """What was added to event times: t' = t + latency."""

    @property
    def assigned(self) -> int:
        """How many events have a frame."""
        return len(self.events)

    @property
    def unassigned(self) -> int:
        """How many events have none."""
        return len(self.frame) - len(self.events)

    def __repr__(self) -> str:
        return (
            f"Alignment({self.policy}, {len(self.offsets) - 1} frames, "
            f"{self.assigned} events assigned, {self.unassigned} not)"
        )


def assign(
    frame_us: NDArray[np.int64],
    event_us: NDArray[np.int64],
    *,
    policy: Policy,
    window_us: int | None,
    latency_us: int = 0,
) -> NDArray[np.int64]:
    """Return (M,) int64, the frame of each event, -1 where none. The rule of `align`."""
    return align(
        frame_us, event_us, policy=policy, window_us=window_us, latency_us=latency_us
    ).frame


def align(
    frame_us: NDArray[np.int64],
    event_us: NDArray[np.int64],
    *,
    policy: Policy,
    window_us: int | None,
    latency_us: int = 0,
) -> Alignment:
    """Give each event to the frame that the policy names, by t' = t + latency_us.

    Args:
        frame_us: (N,) int64, strictly ascending.
        event_us: (M,) int64, in any order; ascending is fastest.
        policy: "following", "preceding", "nearest", "window", or "line": only events that have
            the very time of a frame are that frame's, whatever the window.
        window_us: largest |t' - t[i]| of an assigned event, inclusive; None: unbounded.
        latency_us: positive: an event's effect is seen later.
    Raises:
        ValueError: unknown policy, times that do not ascend, a negative window, "window" without
            a window.
    """
    start, stop = _bounds(frame_us, policy=policy, window_us=window_us, shift=_KEY - latency_us)
    alone = stop != np.append(start[1:], _UINT64_MAX)  # most spans end where the next begins
    num_frames, num_events = len(frame_us), len(event_us)
    begin = np.full(num_frames + 1, num_events)
    end = np.full(num_frames, num_events)
    frame, events = np.empty(num_events, np.int64), np.empty(num_events, np.int64)
    assigned = done = begun = ended = 0
    for places, times in _ascending(event_us):
        reach = _moved(times[-1:], _KEY)[0]
        known, begun = begun, int(np.searchsorted(start, reach, side="right"))
        begin[known:begun] = done + _before(times, start[known:begun])
        end[ended:begun] = begin[ended + 1 : begun + 1]
        ends = ended + np.flatnonzero(alone[ended:begun])
        end[ends] = done + _before(times, stop[ends])
        owners = _owners(ended, begin[ended:begun] - done, end[ended:begun] - done, len(times))
        frame[places] = owners
        mine = places[owners >= 0]
        events[assigned : assigned + len(mine)] = mine
        assigned, done = assigned + len(mine), done + len(times)
        ended = int(np.searchsorted(stop, reach, side="right"))
    offsets = np.zeros(num_frames + 1, np.int64)
    np.cumsum(end - begin[:-1], out=offsets[1:])
    return Alignment(
        frame=frame,
        offsets=offsets,
        events=events[:assigned],
        begin=begin[:-1],
        policy=policy,
        window_us=window_us,
        latency_us=latency_us,
    )


def blocks(
    begin: NDArray[np.int64], num_events: int, *, columns: int = 1
) -> Iterator[tuple[slice, slice]]:
    """Cut frames and events into blocks that are small, where the frames allow it.

    Args:
        begin: (N,) int64, `Alignment.begin`.
        num_events: M.
        columns: how many numbers a frame takes.
    Yields:
        The frames of a block, and from the first one's `begin` to the next block's the events, in
        time order; all frames and all events lie in one block. Without frames there is one.
    """
    first = start = 0
    while True:
        last = int(np.searchsorted(begin, start + BLOCK_EVENTS, side="right")) - 1
        last = min(max(last, first + 1), first + max(BLOCK_CELLS // columns, 1), len(begin))
        stop = int(begin[last]) if last < len(begin) else num_events
        yield slice(first, last), slice(start, stop)
        if last == len(begin):
            return
        first, start = last, stop


def _ascending(event_us: NDArray[np.int64]) -> Iterator[_Places]:
    """Yield the events in time order, stable, block by block: their places, and their times."""
    num_events = len(event_us)
    starts = range(0, num_events, BLOCK_EVENTS)
    if not bool((event_us[1:] < event_us[:-1]).any()):
        order = None
    else:
        first, bits = int(event_us.min()), (num_events - 1).bit_length()
        if (int(event_us.max()) - first).bit_length() + bits <= 63:
            yield from _sorted(event_us, first, bits)
            return
        order = np.argsort(event_us, kind="stable")
    for start in starts:
        span = slice(start, min(start + BLOCK_EVENTS, num_events))
        places = np.arange(span.start, span.stop) if order is None else order[span]
        yield places, event_us[span if order is None else places]


def _sorted(event_us: NDArray[np.int64], first: int, bits: int) -> Iterator[_Places]:
    """Yield what `_ascending` does; event_us - first and a place of `bits` bits fit into int64.

    Fastest where the log is late by little: a block is sorted, and what events of later blocks may
    precede waits for the next one.
    """
    starts = np.arange(0, len(event_us), BLOCK_EVENTS)
    earliest = np.minimum.reduceat(event_us, starts)
    rest = np.minimum.accumulate(earliest[::-1])[::-1]  # the earliest of a block and all later ones
    # Time and place in one integer: sorting values is several times as fast as sorting places.
    waiting = np.zeros(0, np.int64)
    block = 0
    while block < len(starts):
        # If many wait the log is in no order: then all of it is sorted at once.
        until = block + 1 if len(waiting) < BLOCK_EVENTS else len(starts)
        start, stop = block * BLOCK_EVENTS, min(until * BLOCK_EVENTS, len(event_us))
        packed = event_us[start:stop] - first
        packed <<= bits
        packed |= np.arange(start, stop)
        packed = np.concatenate([waiting, packed])
        packed.sort()
        ready = len(packed)
        if until < len(starts):
            ready = int(np.searchsorted(packed, (int(rest[until]) - first) << bits))
        packed, waiting = packed[:ready], packed[ready:]
        if ready:
            yield packed & ((1 << bits) - 1), (packed >> bits) + first
        block = until


def _owners(
    first: int, begin: NDArray[np.int64], end: NDArray[np.int64], num_events: int
) -> NDArray[np.int64]:
    """Return (num_events,) the frame of each of some ascending events, -1 where none.

    Args:
        first: the first frame that they may have.
        begin, end: where the events of it and of those after it begin and end. The first may have
            begun before these events, the last may end after them.
    """
    edges = np.empty(2 * len(begin) + 2, np.int64)
    edges[0], edges[1:-1:2], edges[2:-1:2], edges[-1] = 0, begin, end, num_events
    edges[1], edges[-2] = max(edges[1], 0), min(edges[-2], num_events)
    labels = np.full(len(edges) - 1, -1)  # what lies between a span and the next has no frame
    labels[1::2] = np.arange(first, first + len(begin))
    return np.repeat(labels, edges[1:] - edges[:-1])


def spans(
    frame_us: NDArray[np.int64], *, policy: Policy, window_us: int | None
) -> NDArray[np.int64]:
    """Return the half-open span of t' that the policy gives each frame.

    Args:
        frame_us, policy, window_us: as in `align`.
    Returns:
        (N, 2) int64 start and stop, disjoint and ascending; infinite, or too far for int64, is
        INT64_MIN and INT64_MAX. Under "window" it is the part of [t[i] - window, t[i] + window]
        that no earlier frame has.
    """
    bounds = _bounds(frame_us, policy=policy, window_us=window_us, shift=2**63)
    flipped = np.empty((len(frame_us), 2), np.uint64)
    for side, bound in enumerate(bounds):
        np.bitwise_xor(bound, np.uint64(2**63), out=flipped[:, side])
    return flipped.view(np.int64)


def events_before(
    frame_us: NDArray[np.int64], event_us: NDArray[np.int64], *, latency_us: int
) -> NDArray[np.int64]:
    """Return (N,) int64, how many of the ascending `event_us` have t' < t[i]."""
    return _before(event_us, _moved(frame_us, _KEY - latency_us))


def events_until(
    frame_us: NDArray[np.int64], event_us: NDArray[np.int64], *, latency_us: int
) -> NDArray[np.int64]:
    """Return (N,) int64, how many of the ascending `event_us` have t' <= t[i]."""
    return _before(event_us, _moved(frame_us, 1 + _KEY - latency_us))


# Times and windows may lie anywhere in int64, so that t + latency or t + window can leave it.
# Bounds are therefore made in uint64, moved by _KEY and the latency, exactly or clipped to a value
# that compares with every event alike. One is an event time again less _KEY, but for the greatest.
_KEY = 2**63 - 1


def _before(event_us: NDArray[np.int64], bounds: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return how many of the ascending `event_us` lie before each of `bounds`."""
    if len(event_us) and int(event_us[0]) == INT64_MIN:
        raise ValueError(f"an event time is {INT64_MIN}, which stands for minus infinity")
    found = np.searchsorted(event_us, (bounds - np.uint64(_KEY)).view(np.int64))
    found[bounds == _UINT64_MAX] = len(event_us)
    return found


def _moved(times: NDArray[np.int64], offset: int) -> NDArray[np.uint64]:
    """Return times + offset, computed exactly and then clipped into uint64."""
    low, high = -offset, _UINT64_MAX - offset
    if low > INT64_MAX:
        return np.zeros(len(times), np.uint64)
    if high < INT64_MIN:
        return np.full(len(times), _UINT64_MAX, np.uint64)
    if low > INT64_MIN:
        times = np.maximum(times, low)
    if high < INT64_MAX:
        times = np.minimum(times, high)
    return times.view(np.uint64) + np.uint64(offset % 2**64)


def _bounds(
    frame_us: NDArray[np.int64], *, policy: Policy, window_us: int | None, shift: int
) -> Bounds:
    """Return (N,) start and (N,) stop of every frame's span, moved by `shift` into uint64."""
    _check(frame_us, policy, window_us)
    num_frames = len(frame_us)
    start = np.zeros(num_frames, np.uint64)
    stop = np.full(num_frames, _UINT64_MAX, np.uint64)
    if policy == "following":
        start = _moved(frame_us, shift)
        stop[:-1] = start[1:]
    elif policy == "preceding":
        stop = _moved(frame_us, 1 + shift)
        start[1:] = stop[:-1]
    elif policy == "nearest":
        left, right = frame_us[:-1], frame_us[1:]
        # The floor of the mean without the sum, which could overflow; it goes to the left frame.
        stop[:-1] = _moved((left & right) + ((left ^ right) >> 1), 1 + shift)
        start[1:] = stop[:-1]
    elif policy == LINE_POLICY:
        # Such events have their frame's time; those beyond the last frame have a later one.
        return _moved(frame_us, shift), _moved(frame_us, 1 + shift)
    elif window_us is not None:
        start[1:] = _moved(frame_us[:-1], window_us + 1 + shift)
    if window_us is not None:
        start = np.maximum(start, _moved(frame_us, -window_us + shift))
        stop = np.minimum(stop, _moved(frame_us, window_us + 1 + shift))
    return start, stop


def _check(frame_us: NDArray[np.int64], policy: str, window_us: int | None) -> None:
    if policy not in (*POLICIES, LINE_POLICY):
        raise ValueError(f"{policy=} is none of {', '.join(POLICIES)}")
    if frame_us.ndim != 1 or frame_us.dtype != np.int64:
        raise ValueError(f"frame_us is {frame_us.shape} {frame_us.dtype}, not (N,) int64")
    if bool((frame_us[1:] <= frame_us[:-1]).any()):
        at = int(np.argmax(frame_us[1:] <= frame_us[:-1])) + 1
        raise ValueError(f"frame_us does not ascend strictly at frame {at}")
    if window_us is None and policy == "window":
        raise ValueError("policy 'window' needs a window; window_us is None")
    if window_us is not None and window_us < 0:
        raise ValueError(f"{window_us=} is negative; it must be 0 or more, or None")


@dataclass
class SyncedData:
    """One frame with its inputs."""

    timestamp: int
    """Microseconds."""
    frame_id: str
    """As it was given to `add_frame`."""
    frame_features: NDArray[Any]
    """As they were given to `add_frame`."""
    inputs: list[dict[str, Any]]
    """The frame's inputs in time order, as they were given to `add_input`."""
    metadata: dict[str, Any]
    """The rule: sync_window_ms, policy, latency_ms."""
    input_timestamps: list[int] = field(default_factory=list)
    """Microseconds, one for each of `inputs`."""


class DataSynchronizer:
    """Gives inputs to frames one at a time: the face of `align` for live use.

    Args:
        sync_window_ms: largest distance of an input from its frame; None: unbounded.
        policy: as in `align`.
        latency_ms: added to input times before they are compared.
    """

    def __init__(
        self,
        sync_window_ms: float | None = 100,
        policy: Policy = "window",
        latency_ms: float = 0,
    ) -> None:
        self.sync_window_ms = sync_window_ms
        self.policy = policy
        self.latency_ms = latency_ms
        self._window_us = None if sync_window_ms is None else round(sync_window_ms * 1000)
        _check(np.zeros(0, np.int64), policy, self._window_us)
        self._frames: list[tuple[int, str, Any]] = []
        self._inputs: list[tuple[int, dict[str, Any]]] = []

    def add_frame(self, frame_id: str, timestamp: SupportsIndex, features: Any) -> None:
        """Add a frame at `timestamp`, in microseconds; order does not matter."""
        self._frames.append((_time_us(timestamp), frame_id, features))

    def add_input(self, timestamp: SupportsIndex, input_data: dict[str, Any]) -> None:
        """Add an input at `timestamp`, in microseconds; order does not matter."""
        self._inputs.append((_time_us(timestamp), input_data))

    def sync_data(self) -> list[SyncedData]:
        """Return every frame added so far, by time, with its inputs; forget frames and inputs.

        What was added is taken as complete. Of frames with one time the first has the inputs.
        """
        frames = sorted(self._frames, key=operator.itemgetter(0))
        inputs = sorted(self._inputs, key=operator.itemgetter(0))
        frame_us, first = np.unique(_array([frame[0] for frame in frames]), return_index=True)
        alignment = align(
            frame_us,
            _array([item[0] for item in inputs]),
            policy=self.policy,
            window_us=self._window_us,
            latency_us=round(self.latency_ms * 1000),
        )
        self._frames, self._inputs = [], []
        mine: list[list[tuple[int, dict[str, Any]]]] = [[] for _ in frames]
        for event in alignment.events.tolist():
            mine[int(first[alignment.frame[event]])].append(inputs[event])
        return [self._synced(frame, matched) for frame, matched in zip(frames, mine, strict=True)]

    def _synced(
        self, frame: tuple[int, str, Any], matched: Sequence[tuple[int, dict[str, Any]]]
    ) -> SyncedData:
        timestamp, frame_id, features = frame
        return SyncedData(
            timestamp=timestamp,
            frame_id=frame_id,
            frame_features=features,
            inputs=[data for _, data in matched],
            metadata={
                "sync_window_ms": self.sync_window_ms,
                "policy": self.policy,
                "latency_ms": self.latency_ms,
            },
            input_timestamps=[time for time, _ in matched],
        )


def _time_us(timestamp: SupportsIndex) -> int:
    """Return `timestamp` as an int; a TypeError says that a float is no time."""
    time_us = operator.index(timestamp)
    if not INT64_MIN < time_us <= INT64_MAX:
        raise ValueError(f"{timestamp=} is not within int64")
    return time_us


def _array(times: list[int]) -> NDArray[np.int64]:
    return np.array(times, np.int64)
