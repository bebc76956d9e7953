"""Gives input events to frames, by a named policy. Knows no file format and no device.

Every policy comes down to one half-open span of time for each frame; the spans are disjoint and
ascend with the frames, so that assignment is two searches. docs/time-and-sync.md has the rules.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from playmill.config import LINE_POLICY, POLICIES, Policy

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
"""In a span: minus and plus infinity. INT64_MIN is no event time; INT64_MAX is a good one."""
_UINT64_MAX = 2**64 - 1

Bounds = tuple[NDArray[np.uint64], NDArray[np.uint64]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alignment:
    """Which events are which frame's. assigned + unassigned = M."""

    frame: NDArray[np.int64]
    """(M,) the frame of each event, -1 where none."""
    offsets: NDArray[np.int64]
    """(N+1,) events[offsets[i]:offsets[i+1]] are frame i's events."""
    events: NDArray[np.int64]
    """(K,) indices of the assigned events, by frame and then in time order."""
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
    order = None
    if bool((event_us[1:] < event_us[:-1]).any()):
        order = time_order(event_us)
        event_us = event_us[order]
    start, stop = event_ranges(
        frame_us, event_us, policy=policy, window_us=window_us, latency_us=latency_us
    )
    counts = stop - start
    offsets = np.zeros(len(frame_us) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    frame = _owners(start, counts, len(event_us))
    events = np.flatnonzero(frame >= 0)
    if order is not None:
        events = order[events]
        sorted_frame, frame = frame, np.empty_like(frame)
        frame[order] = sorted_frame
    return Alignment(
        frame=frame,
        offsets=offsets,
        events=events,
        policy=policy,
        window_us=window_us,
        latency_us=latency_us,
    )


def time_order(event_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the stable order of `event_us`, (M,) int64, as np.argsort does but faster."""
    if not len(event_us):
        return np.zeros(0, np.int64)
    first, bits = int(event_us.min()), (len(event_us) - 1).bit_length()
    if (int(event_us.max()) - first).bit_length() + bits > 63:
        return np.argsort(event_us, kind="stable")
    # Time and place in one integer: sorting values is several times as fast as sorting places.
    packed = (event_us - first) << bits | np.arange(len(event_us))
    packed.sort()
    return np.asarray(packed & ((1 << bits) - 1))


def _owners(
    start: NDArray[np.int64], counts: NDArray[np.int64], num_events: int
) -> NDArray[np.int64]:
    """Return (M,) the frame of each of the ascending events, -1 where none."""
    num_frames = len(start)
    labels = np.full(2 * num_frames + 1, -1)
    labels[1::2] = np.arange(num_frames)
    lengths = np.zeros(2 * num_frames + 1, np.int64)
    lengths[1::2] = counts
    lengths[0::2] = np.diff(start, prepend=0, append=num_events)
    lengths[2::2] -= counts  # what lies between a span and the next
    return np.repeat(labels, lengths)


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
    flipped = np.column_stack(bounds) ^ np.uint64(2**63)
    return flipped.view(np.int64)


def event_ranges(
    frame_us: NDArray[np.int64],
    event_us: NDArray[np.int64],
    *,
    policy: Policy,
    window_us: int | None,
    latency_us: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (N,) start and (N,) stop: frame i's events are event_us[start[i]:stop[i]].

    Both ascend, also for frames without events: start[i] events lie before frame i's span.

    Args:
        frame_us, policy, window_us, latency_us: as in `align`.
        event_us: (M,) int64, ascending.
    """
    keys = _event_keys(event_us)
    start, stop = _bounds(frame_us, policy=policy, window_us=window_us, shift=_KEY - latency_us)
    begin = np.searchsorted(keys, start)
    end = np.append(begin[1:], len(keys))
    # Most spans end where the next begins, which has been looked up.
    alone = np.flatnonzero(stop != np.append(start[1:], _UINT64_MAX))
    end[alone] = np.searchsorted(keys, stop[alone])
    return begin, end


def events_until(
    frame_us: NDArray[np.int64], event_us: NDArray[np.int64], *, latency_us: int
) -> NDArray[np.int64]:
    """Return (N,) int64, how many of the ascending `event_us` have t' <= t[i]."""
    return np.searchsorted(_event_keys(event_us), _moved(frame_us, 1 + _KEY - latency_us))


# Times and windows may lie anywhere in int64, so that t + latency or t + window can leave it.
# Comparisons are therefore made in uint64, where an event is t + _KEY, which never overflows, and
# a bound is moved there exactly, or clipped to a value that compares with every event alike.
_KEY = 2**63 - 1


def _event_keys(event_us: NDArray[np.int64]) -> NDArray[np.uint64]:
    if len(event_us) and int(event_us[0]) == INT64_MIN:
        raise ValueError(f"an event time is {INT64_MIN}, which stands for minus infinity")
    return event_us.astype(np.int64, copy=False).view(np.uint64) + np.uint64(_KEY)


def _moved(times: NDArray[np.int64], offset: int) -> NDArray[np.uint64]:
    """Return times + offset, computed exactly and then clipped into uint64."""
    low, high = -offset, _UINT64_MAX - offset
    if low > INT64_MAX:
        return np.zeros(len(times), np.uint64)
    if high < INT64_MIN:
        return np.full(len(times), _UINT64_MAX, np.uint64)
    clipped = np.clip(times, max(low, INT64_MIN), min(high, INT64_MAX))
    return clipped.view(np.uint64) + np.uint64(offset % 2**64)


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
