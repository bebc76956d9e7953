"""How good a dataset's alignment is, in numbers that a person or a gate can judge.

A pure function of what goes into the dataset: it measures, and changes nothing.
docs/time-and-sync.md says what each number means.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.actions import Actions
from playmill.alignment.conservation import audit, holds
from playmill.alignment.spread import median_us, spread_ms
from playmill.inputs.events import InputEvents
from playmill.schema import frame_flag
from playmill.synchronizer import INT64_MAX, Alignment, events_before, events_until

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
    passed, inside = _places(frame_us, events, alignment)
    assigned = alignment.frame >= 0
    num_inside = int(np.count_nonzero(inside))
    distance_us = _distances(frame_us, events, alignment)
    balances = audit(events, alignment, actions)
    report: dict[str, Any] = {
        "frames": len(frame_us),
        "valid_frames": int(np.count_nonzero(actions.valid)),
        "frame_interval_ms": median_us(intervals) / 1000 if len(intervals) else None,
        "events": len(events),
        "assigned": int(np.count_nonzero(assigned)),
        "unassigned": int(np.count_nonzero(~assigned)),
        "unassigned_why": _why(frame_flags, passed[~assigned], inside[~assigned]),
        "outside": {
            "before_first_frame": int(np.count_nonzero(passed == 0)),
            "after_last_frame": int(np.count_nonzero((passed > 0) & ~inside)),
        },
        "event_frame_distance_ms": spread_ms(distance_us) if len(distance_us) else None,
        "coverage": int(np.count_nonzero(inside & assigned)) / num_inside if num_inside else None,
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


def _places(
    frame_us: NDArray[np.int64], events: InputEvents, alignment: Alignment
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (M,) how many frames have t[i] <= t', and (M,) whether t[0] <= t' <= t[-1]."""
    latency_us = alignment.latency_us
    event = np.arange(len(events))
    earlier = events_before(frame_us, events.timestamp_us, latency_us=latency_us)
    passed = np.searchsorted(earlier, event, side="right")
    until_last = events_until(frame_us[-1:], events.timestamp_us, latency_us=latency_us)
    return passed, (passed > 0) & (event < until_last.sum())


def _why(
    frame_flags: NDArray[np.uint8], passed: NDArray[np.int64], inside: NDArray[np.bool_]
) -> dict[str, int]:
    """Count the reasons of the unassigned events, by what `_places` says of them."""
    before = passed == 0
    gap_next = np.r_[(frame_flags & frame_flag("gap_before")) != 0, False]
    in_gap = inside & gap_next[passed]
    groups = (before, ~before & ~inside, in_gap, inside & ~in_gap)
    return {
        name: int(np.count_nonzero(group))
        for name, group in zip(UNASSIGNED_WHY, groups, strict=True)
    }


def _distances(
    frame_us: NDArray[np.int64], events: InputEvents, alignment: Alignment
) -> NDArray[np.int64]:
    """Return (K,) |t' - t[i]| of the assigned events, at most INT64_MAX."""
    mine = np.flatnonzero(alignment.frame >= 0)
    time, own = events.timestamp_us[mine], frame_us[alignment.frame[mine]]
    # Both may lie anywhere in int64. What wraps around shows in the estimate.
    distance = np.abs(time - own + alignment.latency_us)
    estimate = np.abs(time.astype(np.float64) - own + alignment.latency_us)
    return np.where(estimate < 2**62, distance, INT64_MAX)


def _gap_fraction(intervals: NDArray[np.uint64], frame_flags: NDArray[np.uint8]) -> float:
    """Return the share of the time from first to last frame that lies in flagged gaps."""
    gaps = intervals[(frame_flags[1:] & frame_flag("gap_before")) != 0]
    return int(gaps.sum()) / int(intervals.sum()) if len(intervals) else 0.0
