"""What a dataset says of its alignment is data: shown where it makes sense, never trusted."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playmill.dataset import open_dataset
from playmill.inputs.events import InputEvents
from playmill.report import alignment, sections, timeline
from playmill.report.timeline import Timeline
from tests.unit.dataset_samples import ZERO_US, make_events
from tests.unit.report_samples import Outline, make_dataset, make_report, store_report

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("alignment"), 30)


@pytest.fixture(scope="module")
def line(dataset: Path) -> Timeline:
    with open_dataset(dataset) as opened:
        return timeline.build(opened)


def test_without_a_report_the_arrays_are_counted(dataset: Path) -> None:
    with open_dataset(dataset) as opened:
        report = alignment.read_report(opened)
        off = np.abs(alignment.distances_us(opened)) / 1000
    assert not report.stored
    assert report.assigned + report.unassigned == report.events == 259
    assert sum(report.unassigned_why.values()) == report.unassigned
    assert report.unassigned_why["before_first_frame"] == 8  # 60 ms in steps of 7.919 ms
    assert report.distance_ms.max == off.max() > report.distance_ms.p50 > 0
    assert report.lag is report.clock is report.conserved is None


def test_distances_count_the_latency(tmp_path: Path) -> None:
    events = make_events([ZERO_US + 10_000 + 5_000])
    path = make_dataset(tmp_path, 3, events=events, latency_us=2_000)
    with open_dataset(path) as opened:
        assert alignment.distances_us(opened).tolist() == [7_000]


def test_without_events_nothing_is_far(tmp_path: Path) -> None:
    with open_dataset(make_dataset(tmp_path, 1, events=InputEvents.none())) as opened:
        report = alignment.read_report(opened)
    assert (report.events, report.distance_ms.p50) == (0, None)


def test_the_stored_report_is_read(dataset: Path) -> None:
    store_report(dataset, make_report())
    with open_dataset(dataset) as opened:
        report = alignment.read_report(opened)
    assert report.stored
    assert report.coverage == 0.9876
    assert report.clock is not None
    assert report.clock.steps == ((ZERO_US + 2_000_000, 16_667),)
    assert report.lag is not None
    assert report.lag.curve[0] == (-500, -560)
    assert [gate.passed for gate in report.gates] == [True, False, None]
    assert [entry.name for entry in report.sums][:2] == ["presses", "releases"]


@given(
    st.one_of(
        JSON,
        st.fixed_dictionaries({name: JSON for name in make_report()}),
        st.sampled_from(sorted(make_report())).flatmap(
            lambda name: JSON.map(lambda value: make_report(**{name: value}))
        ),
        JSON.map(lambda value: make_report(lag={"curve": {"lag_ms": value, "score": value}})),
        JSON.map(lambda value: make_report(clock={"steps": [value], "residual_ms": value})),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_report_of_any_content_can_be_shown(line: Timeline, value: object) -> None:
    report = alignment.parse(json.dumps(value))
    if report is None:
        assert value == {} or not isinstance(value, dict)
        return
    for part in (
        sections.gates(report.gates),
        sections.synchronization(report, "following", None),
        sections.lag(report.lag),
        sections.clock(report.clock, line),
        sections.conservation(report),
    ):
        if part is not None:
            Outline(part.content)


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", "[" * 100_000, "NaN"])
def test_a_report_that_is_none_counts_as_absent(text: str) -> None:
    assert alignment.parse(text) is None


def test_an_attribute_of_another_type_counts_as_absent(tmp_path: Path) -> None:
    path = make_dataset(tmp_path, 3)
    with h5py.File(path, "r+") as file:
        file["/sync"].attrs["report"] = 7
    with open_dataset(path) as opened:
        assert not alignment.read_report(opened).stored


def test_endless_lists_are_cut() -> None:
    gates = [{"gate": f"g{i}<1", "value": i, "passed": True} for i in range(10**4)]
    report = alignment.parse(json.dumps(make_report(gates=gates)))
    assert report is not None
    assert len(report.gates) == alignment.MAX_ROWS
