"""Conditions that a user sets on the alignment report: `--require clock_residual_p95<20ms`.

A recording that does not meet them is failed instead of published. Knows the report, and neither
recordings nor files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

from playmill.errors import RecordingError, UsageError

Report = Mapping[str, Any]
Measure = Callable[[Report, int], "float | None"]
"""From a report, and the latency in us that the dataset was made with, to a value or None."""
Sign = Literal["<", "<=", ">", ">="]

_UNITS: dict[str, dict[str, Decimal]] = {
    "ms": {"us": Decimal("0.001"), "ms": Decimal(1), "s": Decimal(1000)},
    "ppm": {"ppm": Decimal(1)},
    "": {"": Decimal(1), "%": Decimal("0.01")},
}
"""For the unit in which a quantity is reported, those in which a limit may be given."""

_LEAVE_OUT = "or leave the recording out."
_RECORDER_CLOCK = f"Make the recorder stamp frames and inputs by one clock, {_LEAVE_OUT}"
_DRIFT = (
    "One of the two clocks runs faster, or the container has rounded its frame rate: make the"
    f" recorder stamp frames and inputs by one clock, {_LEAVE_OUT}"
)
_STEPS = (
    f"The log's clock jumps: cut the recording at the steps that the report names, {_LEAVE_OUT}"
)
_LAG = (
    "Take the lag out with --latency-ms auto, or with the latency that the report names,"
    f" {_LEAVE_OUT}"
)
_COVERAGE = (
    "What lies beyond_window gets a frame by a wider --window-ms, what lies in_gap has none because"
    " the recorder lost frames."
)
_UNASSIGNED = (
    f"{_COVERAGE} What lies before the first frame or after the last has none: start the video"
    " before the log and stop it after, or ask for coverage, which does not count it."
)
_DISTANCE = (
    "Events are as far from their frames as frames are apart: record more frames a second; --policy"
    " nearest about halves the distance. A narrower --window-ms leaves far events without a frame."
)
_GAPS = "The recorder lost frames: leave the recording out, or accept more."

_ONE_CLOCK = (
    "the recording has one clock only: neither stamps of its frames in the log nor the time of day"
    " in the video, so that there is nothing to compare. Leave this gate out for such recordings"
)
_NO_LAG = (
    "the pictures do not show the lag for certain. It takes some 20 seconds in which inputs move"
    " the picture; leave this gate out for recordings without"
)
_NONE_INSIDE = "no event of the log lies within the video. Leave this gate out for such recordings"
_NO_EVENTS = "the log has no events. Leave this gate out for recordings without"
_NONE_ASSIGNED = "no event has a frame. Leave this gate out for such recordings"
_ALWAYS = "it is always known"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """Something in the alignment report that a gate can bound."""

    unit: str
    """"ms", "ppm", or "" for shares and counts."""
    good: Literal["<", ">"]
    """Which way is better: the only way in which a bound makes sense."""
    measure: Measure
    """Take it from a report; None where the report has no such thing: then no gate applies."""
    action: str
    """What a person can do about a bad one."""
    unknown: str
    """Why a report has no such thing, and what a person can do about that."""
    highest: Decimal | None = None
    """The highest that it can be; None: there is no bound. None can be below 0."""


def _at(*path: str) -> Measure:
    def measure(report: Report, latency_us: int) -> float | None:
        value: Any = report
        for name in path:
            value = None if value is None else value.get(name)
        return None if value is None else float(abs(value))

    return measure


def _lag_left(report: Report, latency_us: int) -> float | None:
    lag = report["lag"]
    if not lag or not lag.get("confident") or lag.get("lag_ms") is None:
        return None
    # In whole microseconds, so that nothing is left of a lag that was taken out.
    lag_us = round(float(lag["lag_ms"]) * 1000)
    return abs(lag_us - latency_us) / 1000


def _clock_steps(report: Report, latency_us: int) -> float | None:
    return len(report["clock"]["steps"]) if report["clock"] else None


def _unassigned(report: Report, latency_us: int) -> float | None:
    return report["unassigned"] / report["events"] if report["events"] else None


def _spread(name: str, path: tuple[str, ...], action: str, unknown: str) -> dict[str, Quantity]:
    return {
        f"{name}_{which}": Quantity(
            unit="ms", good="<", measure=_at(*path, which), action=action, unknown=unknown
        )
        for which in ("p50", "p95", "max")
    }


def _share(good: Literal["<", ">"], measure: Measure, action: str, unknown: str) -> Quantity:
    return Quantity(
        unit="", good=good, measure=measure, action=action, unknown=unknown, highest=Decimal(1)
    )


def _of_clock(unit: str, measure: Measure, action: str) -> Quantity:
    return Quantity(unit=unit, good="<", measure=measure, action=action, unknown=_ONE_CLOCK)


QUANTITIES: MappingProxyType[str, Quantity] = MappingProxyType(
    {
        **_spread("clock_residual", ("clock", "residual_ms"), _RECORDER_CLOCK, _ONE_CLOCK),
        "drift": _of_clock("ppm", _at("clock", "drift_ppm"), _DRIFT),
        "clock_steps": _of_clock("", _clock_steps, _STEPS),
        "lag": Quantity(unit="ms", good="<", measure=_lag_left, action=_LAG, unknown=_NO_LAG),
        "coverage": _share(">", _at("coverage"), _COVERAGE, _NONE_INSIDE),
        "unassigned_fraction": _share("<", _unassigned, _UNASSIGNED, _NO_EVENTS),
        **_spread("event_frame_distance", ("event_frame_distance_ms",), _DISTANCE, _NONE_ASSIGNED),
        "gap_fraction": _share("<", _at("gap_fraction"), _GAPS, _ALWAYS),
    }
)
"""Every quantity by its name. Drift and lag count without their sign; of the lag what the latency
leaves, and only where the estimate is confident."""

_FORM = re.compile(
    r"\s*([A-Za-z0-9_]+)\s*(<=|>=|<|>)\s*(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z%]*)\s*"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One condition."""

    name: str
    """One of QUANTITIES."""
    sign: Sign
    limit: Decimal
    """In the unit in which the quantity is reported."""

    def __str__(self) -> str:
        """Return the one way to write it."""
        limit = format(self.limit.normalize(), "f")
        return f"{self.name}{self.sign}{limit}{QUANTITIES[self.name].unit}"

    def met_by(self, value: float) -> bool:
        """Return whether `value` meets the condition."""
        found = Decimal(str(value))  # 9 of 10 is 0.9, not the float64 that is a little more
        if self.sign.startswith("<"):
            return found < self.limit or (found == self.limit and self.sign == "<=")
        return found > self.limit or (found == self.limit and self.sign == ">=")


def parse_gate(text: str) -> Gate:
    """Read NAME<LIMIT or NAME>LIMIT, with the unit behind the limit.

    Raises:
        UsageError: another form, an unknown name, a unit that is not the quantity's, a bound on
            the wrong side, or a limit that the quantity cannot have.
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise UsageError(
            f"--require is {text!r}; write NAME<LIMIT or NAME>LIMIT with a unit, such as"
            " clock_residual_p95<20ms or coverage>0.9"
        )
    name, sign, number, unit = found.groups()
    quantity = QUANTITIES.get(name)
    if quantity is None:
        raise UsageError(f"--require {text!r}: no {name!r}; there are {', '.join(QUANTITIES)}")
    units = _UNITS[quantity.unit]
    if unit not in units:
        wanted = " or ".join(known or "no unit" for known in units)
        raise UsageError(f"--require {text!r}: {name} takes {wanted}, not {unit or 'no unit'!r}")
    if not sign.startswith(quantity.good):
        better = "low" if quantity.good == "<" else "high"
        raise UsageError(
            f"--require {text!r}: a good {name} is {better};"
            f" write {name}{quantity.good}{number}{unit}"
        )
    gate = Gate(name=name, sign=sign, limit=Decimal(number) * units[unit] + 0)  # type: ignore[arg-type]
    _check_possible(gate, text)
    return gate


def _check_possible(gate: Gate, text: str) -> None:
    """Raise UsageError for a limit that nothing can meet, or that is beyond what there can be."""
    highest = QUANTITIES[gate.name].highest
    best = Decimal(0) if gate.sign.startswith("<") else highest
    within = gate.limit >= 0 and (highest is None or gate.limit <= highest)
    if within and not (gate.limit == best and len(gate.sign) == 1):
        return
    between = "0 or more" if highest is None else f"between 0 and {highest} (100%)"
    raise UsageError(
        f"--require {text!r}: {gate.name} is always {between}; give a limit in that range, and for"
        f" its best value {gate.name}{gate.sign[0]}={best}{QUANTITIES[gate.name].unit}"
    )


def evaluate(gates: Iterable[Gate], report: Report, *, latency_us: int = 0) -> list[dict[str, Any]]:
    """Hold an alignment report against the gates.

    Args:
        gates: of `parse_gate`.
        report: of `alignment_report`; its "gates" is not looked at.
        latency_us: that the dataset was made with, which takes so much of the lag out.
    Returns:
        For each, in order, {"gate": as text, "value": number or None, "passed": bool or None,
        "why": None or text}, the value in the unit of the gate. Without a value the gate is not
        checked, such as one on the clock of a recording with a single clock; "why" says why there
        is none, and what to do.
    """
    results = []
    for gate in gates:
        quantity = QUANTITIES[gate.name]
        value = quantity.measure(report, latency_us)
        passed = None if value is None else gate.met_by(value)
        why = quantity.unknown if value is None else None
        results.append({"gate": str(gate), "value": value, "passed": passed, "why": why})
    return results


def not_checked(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each gate of `evaluate` that has no value to hold against it."""
    return [
        f"--require {result['gate']} is not checked: {result['why']}"
        for result in results
        if result["passed"] is None
    ]


def failed(recording: str, report: Report, *, kept: str | None = None) -> RecordingError | None:
    """Return the error that says which gates a recording does not meet; None if it meets all.

    It names what was measured for every gate, and what became of the events.

    Args:
        recording: its path.
        report: of `alignment_report`, with the results of `evaluate`.
        kept: path of the file that has the whole report; None: it is in none.
    """
    results = report["gates"]
    missed = [
        (parse_gate(result["gate"]), result) for result in results if result["passed"] is False
    ]
    if not missed:
        return None
    actions = dict.fromkeys(QUANTITIES[gate.name].action for gate, _ in missed)
    return RecordingError(
        recording,
        "alignment",
        ", ".join(f"{gate.name} {_with_unit(gate, result['value'])}" for gate, result in missed),
        " and ".join(result["gate"] for _, result in missed) + ", as --require asks",
        " ".join((_counts(report), *actions, *_others(results)))
        + (f" The whole report: {kept}" if kept else ""),
    )


def _with_unit(gate: Gate, value: float) -> str:
    return f"{value:.6g} {QUANTITIES[gate.name].unit}".rstrip()


def _others(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences on the gates that were not missed."""
    met = [
        f"{gate} ({_with_unit(gate, result['value'])})"
        for gate, result in ((parse_gate(result["gate"]), result) for result in results)
        if result["passed"]
    ]
    return [*([f"Met: {', '.join(met)}."] if met else []), *(f"{s}." for s in not_checked(results))]


def _counts(report: Report) -> str:
    why = ", ".join(f"{count} {name}" for name, count in report["unassigned_why"].items() if count)
    return (
        f"Of {report['events']} events {report['assigned']} have a frame and"
        f" {report['unassigned']} have none{why and f' ({why})'}; of {report['frames']} frames"
        f" {report['valid_frames']} are valid."
    )
