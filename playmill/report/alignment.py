"""What a dataset says of its own alignment, and what its arrays say where it says nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.dataset import Dataset

MAX_ROWS = 40
"""Entries of each list in the report that a page shows."""
MAX_CURVE = 2000
NO_FRAME = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How far something is off, in milliseconds; None where unknown."""

    p50: float | None
    p95: float | None
    max: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """How the log's clock fits the video's."""

    source: str
    offset_us: float | None
    drift_ppm: float | None
    samples: float | None
    residual_ms: Spread
    steps: tuple[tuple[float, float], ...]
    """(at_us, by_us)."""
    findings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lag:
    """How much later than the inputs the picture moves, by its content."""

    lag_ms: float | None
    confidence: float | None
    confident: bool
    applied: bool
    curve: tuple[tuple[float, float], ...]
    """(lag in ms, score), by lag."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One condition that was set, and whether it is met; None: nothing to tell by."""

    gate: str
    value: float | None
    passed: bool | None
    why: str | None = None
    """Why there is nothing to tell by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sum:
    """One row of the conservation audit: log = dataset + unassigned."""

    name: str
    log: float | None
    dataset: float | None
    unassigned: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentReport:
    """The attribute `report` of /sync, or what could be computed in its place."""

    stored: bool
    """Whether the dataset has the attribute."""
    events: int
    assigned: int
    unassigned: int
    unassigned_why: Mapping[str, int]
    distance_ms: Spread
    coverage: float | None = None
    gap_fraction: float | None = None
    clock: Clock | None = None
    lag: Lag | None = None
    conserved: bool | None = None
    sums: tuple[Sum, ...] = ()
    gates: tuple[Gate, ...] = ()


def distances_us(dataset: Dataset) -> NDArray[np.int64]:
    """Return (S,) int64: t' minus the frame's time, of each assigned event, in log order."""
    frame = dataset.array("/sync/frame")
    assigned = frame != NO_FRAME
    times = dataset.array("/inputs/timestamp_us")[assigned] + latency_us(dataset)
    return np.asarray(times - dataset.timestamps_us[frame[assigned]])


def latency_us(dataset: Dataset) -> int:
    """Return what was added to the times of events."""
    return round(float(dataset.h5["/sync"].attrs["latency_ms"]) * 1000)


def read_report(dataset: Dataset) -> AlignmentReport:
    """Return the stored report; without one, or with one that makes no sense, a computed one."""
    stored = dataset.h5["/sync"].attrs.get("report")
    report = parse(stored) if isinstance(stored, str) else None
    return report or _compute(dataset)


def _compute(dataset: Dataset) -> AlignmentReport:
    frame, times = dataset.array("/sync/frame"), dataset.timestamps_us
    lost = dataset.array("/inputs/timestamp_us")[frame == NO_FRAME].astype(np.float64)
    lost += latency_us(dataset)
    before, after = int((lost < times[0]).sum()), int((lost > times[-1]).sum())
    off = np.abs(distances_us(dataset)) / 1000
    p50, p95, largest = (*np.percentile(off, (50, 95)), off.max()) if len(off) else (None,) * 3
    return AlignmentReport(
        stored=False,
        events=len(frame),
        assigned=len(frame) - len(lost),
        unassigned=len(lost),
        unassigned_why={
            "before_first_frame": before,
            "after_last_frame": after,
            "between_frames": len(lost) - before - after,
        },
        distance_ms=Spread(p50=_number(p50), p95=_number(p95), max=_number(largest)),
    )


# ---- the attribute is data: whatever is not of the promised type counts as unknown -------------


def parse(text: str) -> AlignmentReport | None:
    """Read the attribute; None if it is no JSON object, or an empty one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not value:
        return None
    why = _mapping(value.get("unassigned_why"))
    audit = _mapping(value.get("conservation"))
    return AlignmentReport(
        stored=True,
        events=_whole(value.get("events")),
        assigned=_whole(value.get("assigned")),
        unassigned=_whole(value.get("unassigned")),
        unassigned_why={str(name): _whole(why[name]) for name in list(why)[:MAX_ROWS]},
        distance_ms=_spread(value.get("event_frame_distance_ms")),
        coverage=_number(value.get("coverage")),
        gap_fraction=_number(value.get("gap_fraction")),
        clock=_clock(value.get("clock")),
        lag=_lag(value.get("lag")),
        conserved=_truth(audit.get("holds")),
        sums=tuple(
            _sum(str(name), entry)
            for name, entry in list(audit.items())[:MAX_ROWS]
            if isinstance(entry, dict)
        ),
        gates=tuple(
            Gate(
                gate=str(entry.get("gate")),
                value=_number(entry.get("value")),
                passed=_truth(entry.get("passed")),
                why=None if entry.get("why") is None else str(entry["why"]),
            )
            for entry in _list(value.get("gates"))
            if isinstance(entry, dict)
        ),
    )


def _clock(value: Any) -> Clock | None:
    if not isinstance(value, dict):
        return None
    steps = [
        (_number(step.get("at_us")), _number(step.get("by_us")))
        for step in _list(value.get("steps"))
        if isinstance(step, dict)
    ]
    return Clock(
        source=str(value.get("source")),
        offset_us=_number(value.get("offset_us")),
        drift_ppm=_number(value.get("drift_ppm")),
        samples=_number(value.get("samples")),
        residual_ms=_spread(value.get("residual_ms")),
        steps=tuple((at, by) for at, by in steps if at is not None and by is not None),
        findings=tuple(str(finding) for finding in _list(value.get("findings"))),
    )


def _lag(value: Any) -> Lag | None:
    if not isinstance(value, dict):
        return None
    curve = _mapping(value.get("curve"))
    pairs = zip(
        _list(curve.get("lag_ms"), MAX_CURVE), _list(curve.get("score"), MAX_CURVE), strict=False
    )
    points = [(_number(lag), _number(score)) for lag, score in pairs]
    return Lag(
        lag_ms=_number(value.get("lag_ms")),
        confidence=_number(value.get("confidence")),
        confident=value.get("confident") is True,
        applied=value.get("applied") is True,
        curve=tuple(sorted((x, y) for x, y in points if x is not None and y is not None)),
    )


def _sum(name: str, entry: Mapping[str, Any]) -> Sum:
    return Sum(
        name=name,
        log=_number(entry.get("log")),
        dataset=_number(entry.get("dataset")),
        unassigned=_number(entry.get("unassigned")),
    )


def _spread(value: Any) -> Spread:
    entry = _mapping(value)
    return Spread(
        p50=_number(entry.get("p50")), p95=_number(entry.get("p95")), max=_number(entry.get("max"))
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any, limit: int = MAX_ROWS) -> list[Any]:
    return value[:limit] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    """Return a finite number within what a chart can draw; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e18:
        return None
    return float(value) if math.isfinite(value) else None


def _whole(value: Any) -> int:
    return int(_number(value) or 0)


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
