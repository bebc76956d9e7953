"""Gates say in numbers what a recording must meet, and the error what it did not."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playmill.alignment.clock_fit import fit_clock
from playmill.alignment.gates import QUANTITIES, Gate, evaluate, failed, not_checked, parse_gate
from playmill.alignment.report import alignment_report
from playmill.errors import RecordingError, UsageError
from tests.unit.test_alignment_report import inputs_of, log_of, move

REPORT: dict[str, Any] = {
    "frames": 60,
    "valid_frames": 54,
    "events": 200,
    "assigned": 180,
    "unassigned": 20,
    "unassigned_why": {"before_first_frame": 2, "in_gap": 0, "beyond_window": 18},
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
            {"gate": gate, "value": value, "passed": expected, "why": None}
        ]

    def test_every_quantity_is_tried_above(self) -> None:
        marks = type(self).test_a_gate_takes_its_value_from_the_report.pytestmark
        tried = {parse_gate(case[0]).name for case in marks[0].args[1]}
        assert tried == set(QUANTITIES)

    @pytest.mark.parametrize("name", [name for name in QUANTITIES if name != "gap_fraction"])
    def test_a_gate_without_a_value_is_not_checked_and_says_why(self, name) -> None:
        unit = QUANTITIES[name].unit
        (result,) = evaluate([parse_gate(f"{name}{QUANTITIES[name].good}=1{unit}")], BARE)
        assert (result["value"], result["passed"]) == (None, None)
        (warning,) = not_checked([result])
        assert warning.startswith(f"--require {result['gate']} is not checked: ")
        why = {"cl": "one clock", "dr": "one clock", "la": "pictures", "un": "has no events"}
        assert why.get(name[:2], "no event ") in warning
        assert "eave this gate out" in warning

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
        gates = [parse_gate(f"{n}{q.good}=0{q.unit}") for n, q in QUANTITIES.items()]
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
            ("lag<-5ms", "lag is always 0 or more; .* its best value lag<=0ms"),
            ("lag<0ms", "lag is always 0 or more; .* its best value lag<=0ms"),
            ("coverage>2", "coverage is always between 0 and 1 .100%.; .* coverage>=1"),
            ("coverage>1", "coverage is always between 0 and 1 .100%.; .* coverage>=1"),
            ("coverage>=100.1%", "coverage is always between 0 and 1"),
            ("gap_fraction<-1", "gap_fraction is always between 0 and 1 .*gap_fraction<=0"),
            ("gap_fraction<0", "gap_fraction is always between 0 and 1 .*gap_fraction<=0"),
            ("unassigned_fraction<5", "unassigned_fraction is always between 0 and 1"),
            ("clock_steps<0", "clock_steps is always 0 or more"),
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

    @pytest.mark.parametrize("text", ["coverage>=100%", "gap_fraction<=0", "lag<=-0ms"])
    def test_the_best_value_can_be_asked_for(self, text) -> None:
        gate = parse_gate(text)
        assert gate.met_by(float(gate.limit))
        assert "-" not in str(gate)

    @given(
        name=st.sampled_from(sorted(QUANTITIES)),
        strict=st.booleans(),
        limit=st.decimals("0.001", 10**6, places=3),
    )
    def test_the_text_of_a_gate_is_that_gate(self, name, strict, limit) -> None:
        sign = QUANTITIES[name].good + ("" if strict else "=")
        if QUANTITIES[name].highest is not None:
            limit = min(limit, Decimal("0.999"))
        gate = Gate(name=name, sign=sign, limit=limit)
        assert parse_gate(str(gate)) == gate


class TestFailed:
    def test_a_recording_that_meets_all_is_no_error(self) -> None:
        gates = [parse_gate("gap_fraction<0.5"), parse_gate("coverage>=0.9")]
        for report, held in ((REPORT, gates), (BARE, [parse_gate("lag<1ms")]), (REPORT, [])):
            assert failed("/r/one", report | {"gates": evaluate(held, report)}) is None

    def test_the_error_names_every_gate_and_what_became_of_events(self) -> None:
        error = missed("clock_residual_p95<15ms", "coverage>0.5", "drift<100ppm", "lag<=64ms")
        assert isinstance(error, RecordingError)
        assert str(error) == (
            "/r/one: alignment: found clock_residual_p95 20 ms, drift 120.5 ppm; expected"
            " clock_residual_p95<15ms and drift<100ppm, as --require asks. Of 200 events 180 have"
            " a frame and 20 have none (2 before_first_frame, 18 beyond_window); of 60 frames 54"
            " are valid. Make the recorder stamp frames and inputs by one clock, or leave the"
            " recording out. One of the two clocks runs faster, or the container has rounded its"
            " frame rate: make the recorder stamp"
            " frames and inputs by one clock, or leave the recording out. Met: coverage>0.5 (0.9),"
            " lag<=64ms (64 ms). The whole report: /d/failed/one.json"
        )
        assert str(pickle.loads(pickle.dumps(error))) == str(error)

    def test_a_gate_that_is_not_checked_is_named_too(self) -> None:
        error = missed("coverage>0.95", "lag<50ms", lag=None)
        assert "--require lag<50ms is not checked: the pictures do not show the lag" in str(error)

    @pytest.mark.parametrize(
        ("gate", "advice"),
        [
            ("clock_steps<1", "cut the recording at the steps"),
            ("lag<50ms", "--latency-ms auto"),
            ("coverage>0.95", "by a wider --window-ms"),
            ("unassigned_fraction<0.01", "start the video before the log"),
            ("gap_fraction<0.1", "The recorder lost frames"),
        ],
    )
    def test_the_advice_is_that_of_the_gate(self, gate, advice) -> None:
        assert advice in str(missed(gate))

    @pytest.mark.parametrize("which", ["p50", "p95", "max"])
    def test_events_far_from_frames_call_for_no_wider_window(self, which) -> None:
        text = str(missed(f"event_frame_distance_{which}<5ms"))
        assert "wider" not in text
        assert "--policy nearest" in text
        assert "A narrower --window-ms" in text


def missed(*gates: str, **changed: Any) -> RecordingError | None:
    report = REPORT | changed
    results = evaluate([parse_gate(gate) for gate in gates], report)
    return failed("/r/one", report | {"gates": results}, kept="/d/failed/one.json")
