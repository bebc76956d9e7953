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

_CLOCK = "Make the recorder stamp frames and inputs by one clock, or leave the recording out."
_LAG = "Submit it again with a --latency-ms that takes the lag out, or leave the recording out."
_EVENTS = (
    "See unassigned_why in the alignment report; a wider --window-ms or another --policy may give"
    " more events a frame."
)
_GAPS = "The recorder lost frames: leave the recording out, or accept more."


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


def _spread(name: str, path: tuple[str, ...], action: str) -> dict[str, Quantity]:
    return {
        f"{name}_{which}": Quantity(unit="ms", good="<", measure=_at(*path, which), action=action)
        for which in ("p50", "p95", "max")
    }


QUANTITIES: MappingProxyType[str, Quantity] = MappingProxyType(
    {
        **_spread("clock_residual", ("clock", "residual_ms"), _CLOCK),
        "drift": Quantity(unit="ppm", good="<", measure=_at("clock", "drift_ppm"), action=_CLOCK),
        "clock_steps": Quantity(unit="", good="<", measure=_clock_steps, action=_CLOCK),
        "lag": Quantity(unit="ms", good="<", measure=_lag_left, action=_LAG),
        "coverage": Quantity(unit="", good=">", measure=_at("coverage"), action=_EVENTS),
        "unassigned_fraction": Quantity(unit="", good="<", measure=_unassigned, action=_EVENTS),
        **_spread("event_frame_distance", ("event_frame_distance_ms",), _EVENTS),
        "gap_fraction": Quantity(unit="", good="<", measure=_at("gap_fraction"), action=_GAPS),
    }
)
"""Every quantity by its name. Drift and lag count without their sign; of the lag what the latency
leaves, and only where the estimate is confident."""

_FORM = re.compile(
    r"\s*([A-Za-z0-9_]+)\s*(<=|>=|<|>)\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z%]*)\s*"
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
        UsageError: another form, an unknown name, a unit that is not the quantity's, or a bound on
            the wrong side.
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
    return Gate(name=name, sign=sign, limit=Decimal(number) * units[unit])  # type: ignore[arg-type]


def evaluate(gates: Iterable[Gate], report: Report, *, latency_us: int = 0) -> list[dict[str, Any]]:
    """Hold an alignment report against the gates.

    Args:
        gates: of `parse_gate`.
        report: of `alignment_report`; its "gates" is not looked at.
        latency_us: that the dataset was made with, which takes so much of the lag out.
    Returns:
        For each, in order, {"gate": as text, "value": number or None, "passed": bool or None}, the
        value in the unit of the gate. None: the report has no such value, and the gate does not
        apply, such as one on the clock of a recording with a single clock.
    """
    results = []
    for gate in gates:
        value = QUANTITIES[gate.name].measure(report, latency_us)
        passed = None if value is None else gate.met_by(value)
        results.append({"gate": str(gate), "value": value, "passed": passed})
    return results


def failed(recording: str, results: Sequence[Mapping[str, Any]]) -> RecordingError | None:
    """Return the error that says which gates a recording does not meet; None if it meets all.

    Args:
        recording: its path.
        results: of `evaluate`.
    """
    missed = [
        (parse_gate(result["gate"]), result) for result in results if result["passed"] is False
    ]
    if not missed:
        return None
    actions = dict.fromkeys(QUANTITIES[gate.name].action for gate, _ in missed)
    return RecordingError(
        recording,
        "alignment",
        ", ".join(
            f"{gate.name} {result['value']:.6g}{QUANTITIES[gate.name].unit and ' '}"
            f"{QUANTITIES[gate.name].unit}"
            for gate, result in missed
        ),
        " and ".join(result["gate"] for _, result in missed) + ", as --require asks",
        " ".join(actions),
    )
