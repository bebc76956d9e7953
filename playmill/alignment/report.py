"""How good a dataset's alignment is, in numbers that a person or a gate can judge.

A pure function of what goes into the dataset: it measures, and changes nothing.
docs/time-and-sync.md says what each number means.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import synchronizer
from playmill.alignment.actions import Actions
from playmill.alignment.conservation import audit, holds
from playmill.alignment.spread import median_us, spread_ms
from playmill.inputs.events import InputEvents
from playmill.schema import frame_flag
from playmill.synchronizer import (
    INT64_MAX,
    Alignment,
    events_before,
    events_until,
)

UNASSIGNED_WHY = ("before_first_frame", "after_last_frame", "in_gap", "beyond_window")
"""Why an event has no frame, in the order of asking."""


def alignment_report(
    frame_us: NDArray[np.int64],
    frame_flags: NDArray[np.uint8],
    events: InputEvents,
    alignment: Alignment,
    actions: Actions,
    *,
    clock: dict[str, Any] | None = None,
    lag: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Report on the alignment of frames and events.

    Args:
        frame_us: (N,) int64, strictly ascending.
        frame_flags: (N,) uint8, `schema.FRAME_FLAGS` bits; gap_before is used.
        events: the log, M events.
        alignment: which frame each event has.
        actions: the arrays that are stored.
        clock: `ClockFit.to_json()`; None: there was nothing to fit.
        lag: the estimate of the lag between inputs and picture; None: there is none.
    Returns:
        A JSON object of plain values, every number finite, the same for the same dataset; "gates"
        is an empty list, for `gates.evaluate`.
    Raises:
        ValueError: `clock` or `lag` holds a number that is not finite.
    """
    # As times ascend, their differences and sums of them fit into uint64 wherever they lie.
    intervals = np.asarray(np.diff(frame_us.view(np.uint64)), np.uint64)
    first, last = _inside(frame_us, events, alignment)
    astray = first + np.flatnonzero(alignment.frame[first:last] < 0)
    num_inside = last - first
    distance_us = _distances(frame_us, events, alignment)
    distance_ms = spread_ms(distance_us) if len(distance_us) else None
    del distance_us  # as long as the log, and not needed below
    balances = audit(events, alignment, actions)
    in_gap = _in_gaps(frame_us, frame_flags, events, alignment, astray)
    why = (
        int(np.count_nonzero(alignment.frame[:first] < 0)),
        int(np.count_nonzero(alignment.frame[last:] < 0)),
        in_gap,
        len(astray) - in_gap,
    )
    report: dict[str, Any] = {
        "frames": len(frame_us),
        "valid_frames": int(np.count_nonzero(actions.valid)),
        "frame_interval_ms": median_us(intervals) / 1000 if len(intervals) else None,
        "events": len(events),
        "assigned": alignment.assigned,
        "unassigned": alignment.unassigned,
        "unassigned_why": dict(zip(UNASSIGNED_WHY, why, strict=True)),
        "outside": {"before_first_frame": first, "after_last_frame": len(events) - last},
        "event_frame_distance_ms": distance_ms,
        "coverage": (num_inside - len(astray)) / num_inside if num_inside else None,
        "gap_fraction": _gap_fraction(intervals, frame_flags),
        "clock": clock,
        "lag": lag,
        "conservation": {
            "holds": holds(balances.values()),
            **{name: balance.to_json() for name, balance in balances.items()},
        },
        "gates": [],
    }
    # Through JSON, so that the file, the page and the gates see the same plain values.
    result: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    return result


def _inside(
    frame_us: NDArray[np.int64], events: InputEvents, alignment: Alignment
) -> tuple[int, int]:
    """Return the first event with t[0] <= t' <= t[-1], and the first one after all of these."""
    latency_us = alignment.latency_us
    before = events_before(frame_us[:1], events.timestamp_us, latency_us=latency_us)
    first = int(before.min(initial=len(events)))
    until = events_until(frame_us[-1:], events.timestamp_us, latency_us=latency_us)
    return first, int(until.max(initial=first))


def _in_gaps(
    frame_us: NDArray[np.int64],
    frame_flags: NDArray[np.uint8],
    events: InputEvents,
    alignment: Alignment,
    astray: NDArray[np.int64],
) -> int:
    """Count which of the events `astray`, ascending indices, lie in a gap between two frames."""
    after = 1 + np.flatnonzero(frame_flags[1:] & frame_flag("gap_before"))
    start, stop = (
        events_before(frame_us[frames], events.timestamp_us, latency_us=alignment.latency_us)
        for frames in (after - 1, after)
    )
    return int((np.searchsorted(astray, stop) - np.searchsorted(astray, start)).sum())


def _distances(
    frame_us: NDArray[np.int64], events: InputEvents, alignment: Alignment
) -> NDArray[np.int64]:
    """Return (K,) |t' - t[i]| of the assigned events, at most INT64_MAX, in any order."""
    distances = np.empty(alignment.assigned, np.int64)
    for start in range(0, alignment.assigned, synchronizer.BLOCK_EVENTS):
        mine = alignment.events[start : start + synchronizer.BLOCK_EVENTS]
        time, own = events.timestamp_us[mine], frame_us[alignment.frame[mine]]
        # Both may lie anywhere in int64. What wraps around shows in the estimate.
        distance = np.abs(time - own + alignment.latency_us)
        estimate = np.abs(time.astype(np.float64) - own + alignment.latency_us)
        distances[start : start + len(mine)] = np.where(estimate < 2**62, distance, INT64_MAX)
    return distances


def _gap_fraction(intervals: NDArray[np.uint64], frame_flags: NDArray[np.uint8]) -> float:
    """Return the share of the time from first to last frame that lies in flagged gaps."""
    gaps = intervals[(frame_flags[1:] & frame_flag("gap_before")) != 0]
    return int(gaps.sum()) / int(intervals.sum()) if len(intervals) else 0.0
