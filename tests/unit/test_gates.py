"""Gates say in numbers what a recording must meet, and the error what it did not."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playmill.alignment_report import alignment_report
from playmill.clock_fit import fit_clock
from playmill.errors import RecordingError, UsageError
from playmill.gates import QUANTITIES, Gate, evaluate, failed, parse_gate
from tests.unit.test_alignment_report import inputs_of, log_of, move

REPORT: dict[str, Any] = {
    "events": 200,
    "assigned": 180,
    "unassigned": 20,
    "event_frame_distance_ms": {"p50": 8.25, "p95": 15.0, "max": 90.5},
    "coverage": 0.9,
    "gap_fraction": 0.25,
    "clock": {
        "drift_ppm": -120.5,
        "residual_ms": {"p50": 1.0, "p95": 20.0, "max": 31.2},
        "steps": [{"at_us": 5, "by_us": 30_000}],
    },
    "lag": {"lag_ms": -64.0, "confident": True},
}
BARE: dict[str, Any] = {
    "events": 0,
    "unassigned": 0,
    "event_frame_distance_ms": None,
    "coverage": None,
    "gap_fraction": 0.0,
    "clock": None,
    "lag": None,
}


def passed(text: str, report: dict[str, Any] = REPORT) -> bool | None:
    (result,) = evaluate([parse_gate(text)], report)
    return result["passed"]


class TestEvaluate:
    @pytest.mark.parametrize(
        ("gate", "value", "expected"),
        [
            ("clock_residual_p50<1.001ms", 1.0, True),
            ("clock_residual_p95<20ms", 20.0, False),
            ("clock_residual_p95<=20ms", 20.0, True),
            ("clock_residual_max<31.3ms", 31.2, True),
            ("drift<100ppm", 120.5, False),
            ("clock_steps<1", 1.0, False),
            ("lag<50ms", 64.0, False),
            ("coverage>0.9", 0.9, False),
            ("coverage>=0.9", 0.9, True),
            ("unassigned_fraction<0.05", 0.1, False),
            ("event_frame_distance_p50<10ms", 8.25, True),
            ("event_frame_distance_p95<50ms", 15.0, True),
            ("event_frame_distance_max<50ms", 90.5, False),
            ("gap_fraction<0.1", 0.25, False),
        ],
    )
    def test_a_gate_takes_its_value_from_the_report(self, gate, value, expected) -> None:
        assert evaluate([parse_gate(gate)], REPORT) == [
            {"gate": gate, "value": value, "passed": expected}
        ]

    def test_every_quantity_is_tried_above(self) -> None:
        marks = type(self).test_a_gate_takes_its_value_from_the_report.pytestmark
        tried = {parse_gate(case[0]).name for case in marks[0].args[1]}
        assert tried == set(QUANTITIES)

    @pytest.mark.parametrize("name", [name for name in QUANTITIES if name != "gap_fraction"])
    def test_a_gate_without_a_value_does_not_apply(self, name) -> None:
        unit = QUANTITIES[name].unit
        (result,) = evaluate([parse_gate(f"{name}{QUANTITIES[name].good}1{unit}")], BARE)
        assert (result["value"], result["passed"]) == (None, None)

    @pytest.mark.parametrize("confident", [False, None])
    def test_a_lag_that_is_not_confident_does_not_apply(self, confident) -> None:
        lag = {"lag_ms": 300.0, "confident": confident}
        assert passed("lag<50ms", {**REPORT, "lag": lag}) is None
        assert passed("lag<50ms", {**REPORT, "lag": {"lag_ms": None, "confident": False}}) is None

    def test_a_confident_lag_counts_whatever_its_sign(self) -> None:
        for lag_ms in (-49.9, 49.9):
            lag = {"lag_ms": lag_ms, "confident": True}
            assert passed("lag<50ms", {**REPORT, "lag": lag}) is True

    def test_a_latency_takes_its_part_of_the_lag_out(self) -> None:
        for latency_us, left in ((0, 64.0), (-64_000, 0.0), (-50_000, 14.0), (64_000, 128.0)):
            (result,) = evaluate([parse_gate("lag<50ms")], REPORT, latency_us=latency_us)
            assert (result["value"], result["passed"]) == (left, left < 50)

    def test_real_reports_have_what_gates_ask_for(self) -> None:
        container = np.arange(100) * 33_333
        fit = fit_clock(container, container + 5, source="s")
        assert fit is not None
        report = alignment_report(
            *inputs_of([0, 10], log_of([move(3)])),
            clock=fit.to_json(),
            lag={"lag_ms": 0.0, "confident": True},
        )
        gates = [parse_gate(f"{n}{q.good}={0}{q.unit}") for n, q in QUANTITIES.items()]
        report["gates"] = evaluate(gates, report)
        assert len(report["gates"]) == len(QUANTITIES)
        assert all(result["value"] is not None for result in report["gates"])


class TestParse:
    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("lag<50ms", "lag<50ms"),
            (" lag < 0.0500 s ", "lag<50ms"),
            ("clock_residual_p95<=20000us", "clock_residual_p95<=20ms"),
            ("clock_residual_p95<0.5us", "clock_residual_p95<0.0005ms"),
            ("coverage>90%", "coverage>0.9"),
            ("coverage>=.9", None),
            ("drift<100ppm", "drift<100ppm"),
            ("clock_steps<1", "clock_steps<1"),
        ],
    )
    def test_one_meaning_is_written_in_one_way(self, text, canonical) -> None:
        if canonical is None:
            with pytest.raises(UsageError, match="write NAME<LIMIT"):
                parse_gate(text)
        else:
            gate = parse_gate(text)
            assert str(gate) == canonical
            assert parse_gate(canonical) == gate

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("residual<20ms", "no 'residual'; there are clock_residual_p50, clock_residual_p95, "),
            ("lag<50", "lag takes us or ms or s, not 'no unit'"),
            ("lag<50ppm", "lag takes us or ms or s, not 'ppm'"),
            ("coverage>0.9ms", "coverage takes no unit or %, not 'ms'"),
            ("drift<0.1%", "drift takes ppm, not '%'"),
            ("coverage<0.9", "a good coverage is high; write coverage>0.9"),
            ("gap_fraction>=10%", "a good gap_fraction is low; write gap_fraction<10%"),
            ("lag", "write NAME<LIMIT or NAME>LIMIT with a unit"),
            ("lag<-5ms", "write NAME<LIMIT or NAME>LIMIT with a unit"),
            ("lag==5ms", "write NAME<LIMIT or NAME>LIMIT with a unit"),
            ("lag<1e3ms", "lag takes us or ms or s|write NAME<LIMIT"),
            ("lag<nanms", "write NAME<LIMIT or NAME>LIMIT with a unit"),
            ("", "--require is ''; write NAME<LIMIT"),
        ],
    )
    def test_what_is_no_gate_is_wrong_usage(self, text, message) -> None:
        with pytest.raises(UsageError, match=message):
            parse_gate(text)

    @given(st.text(max_size=30) | st.from_regex(r"[a-z_]+[<>]=?[0-9.%]+[a-z]*", fullmatch=True))
    def test_any_text_is_a_gate_or_wrong_usage(self, text) -> None:
        try:
            gate = parse_gate(text)
        except UsageError:
            return
        assert parse_gate(str(gate)) == gate

    @given(
        name=st.sampled_from(sorted(QUANTITIES)),
        strict=st.booleans(),
        limit=st.decimals(0, 10**6, places=3),
    )
    def test_the_text_of_a_gate_is_that_gate(self, name, strict, limit) -> None:
        sign = QUANTITIES[name].good + ("" if strict else "=")
        gate = Gate(name=name, sign=sign, limit=limit)
        assert parse_gate(str(gate)) == gate


class TestFailed:
    def test_a_recording_that_meets_all_is_no_error(self) -> None:
        gates = [parse_gate("gap_fraction<0.5"), parse_gate("coverage>=0.9")]
        assert failed("/r/one", evaluate(gates, REPORT)) is None
        assert failed("/r/one", evaluate([parse_gate("lag<1ms")], BARE)) is None
        assert failed("/r/one", []) is None

    def test_the_error_names_every_gate_missed_and_what_to_do(self) -> None:
        gates = ("clock_residual_p95<15ms", "coverage>0.5", "drift<100ppm", "gap_fraction<0.1")
        error = failed("/r/one", evaluate([parse_gate(gate) for gate in gates], REPORT))
        assert isinstance(error, RecordingError)
        assert str(error) == (
            "/r/one: alignment: found clock_residual_p95 20 ms, drift 120.5 ppm,"
            " gap_fraction 0.25; expected clock_residual_p95<15ms and drift<100ppm and"
            " gap_fraction<0.1, as --require asks. Make the recorder stamp frames and inputs by one"
            " clock, or leave the recording out. The recorder lost frames: leave the recording out,"
            " or accept more."
        )
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
