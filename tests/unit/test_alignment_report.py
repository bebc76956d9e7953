"""The alignment report says what became of every event, and notices when one is lost."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playmill import synchronizer
from playmill.alignment import actions, conservation
from playmill.alignment.report import UNASSIGNED_WHY, alignment_report
from playmill.config import POLICIES
from playmill.inputs import InputEvents
from playmill.publishing.joined_frames import GAP_FACTOR
from playmill.schema import frame_flag
from playmill.synchronizer import Alignment, align
from tests.unit.event_samples import Event, key, log_of, moves, positions, snapshots, switches
from tests.unit.log_samples import read_native

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"
GAP = frame_flag("gap_before")
QUANTITIES = ("presses", "releases", "scroll_x", "scroll_y", "mouse_dx", "mouse_dy")


def inputs_of(
    frames: list[int],
    log: InputEvents,
    policy: str = "following",
    window: int | None = None,
    latency: int = 0,
    gaps: tuple[int, ...] = (),
) -> tuple[np.ndarray, np.ndarray, InputEvents, Alignment, actions.Actions]:
    """Return the arguments of `alignment_report`; `gaps` are frames with a gap before them."""
    frame_us = np.array(frames, np.int64)
    alignment = align(
        frame_us, log.timestamp_us, policy=policy, window_us=window, latency_us=latency
    )
    flags = np.zeros(len(frames), np.uint8)
    flags[list(gaps)] = GAP
    return frame_us, flags, log, alignment, actions.build(frame_us, log, alignment)


def report_of(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return alignment_report(*inputs_of(*args, **kwargs))


def move(time: int, dx: float = 1, dy: float = 0) -> Event:
    return (time, "mouse", "move", None, (dx, dy))


class TestShape:
    def test_a_small_recording_gives_exactly_this(self) -> None:
        log = log_of(
            [
                move(5),  # before the first frame
                key(12, "press"),
                key(13, "press"),  # auto-repeat
                move(14, 3, -2),
                key(29, "release"),  # too far from frame 1, which is followed by a gap
                key(60, "release", "a"),  # an orphan
                (61, "mouse", "scroll", None, (0, -1)),
                move(90, 7, 0),  # after the last frame
            ]
        )
        got = report_of([10, 20, 60, 70], log, "following", 8, gaps=(2,))
        assert got == {
            "frames": 4,
            "valid_frames": 0,
            "frame_interval_ms": 0.01,
            "events": 8,
            "assigned": 5,
            "unassigned": 3,
            "unassigned_why": {
                "before_first_frame": 1,
                "after_last_frame": 1,
                "in_gap": 1,
                "beyond_window": 0,
            },
            "outside": {"before_first_frame": 1, "after_last_frame": 1},
            "event_frame_distance_ms": {"p50": 0.002, "p95": 0.004, "max": 0.004},
            "coverage": 5 / 6,
            "gap_fraction": 40 / 60,
            "clock": None,
            "lag": None,
            "conservation": {
                "holds": True,
                "presses": {"log": 1, "dataset": 1, "unassigned": 0},
                "releases": {"log": 1, "dataset": 0, "unassigned": 1},
                "scroll_x": {"log": 0, "dataset": 0, "unassigned": 0},
                "scroll_y": {"log": -1, "dataset": -1, "unassigned": 0},
                "mouse_dx": {"log": 11, "dataset": 3, "unassigned": 8},
                "mouse_dy": {"log": -2, "dataset": -2, "unassigned": 0},
            },
            "gates": [],
        }
        assert tuple(got["unassigned_why"]) == UNASSIGNED_WHY

    def test_a_recording_without_events_has_no_distance_and_no_coverage(self) -> None:
        got = report_of([0, 10], InputEvents.none(), "nearest", 5)
        assert (got["event_frame_distance_ms"], got["coverage"]) == (None, None)
        assert (got["events"], got["gap_fraction"]) == (0, 0.0)
        assert got["conservation"]["holds"] is True

    def test_one_frame_is_a_video(self) -> None:
        got = report_of([10], log_of([move(10), move(11)]), "following", 5)
        assert (got["coverage"], got["gap_fraction"], got["assigned"]) == (1.0, 0.0, 2)
        assert got["frame_interval_ms"] is None

    def test_clock_and_lag_are_handed_on(self) -> None:
        clock, lag = {"source": "subtitle track", "steps": []}, {"lag_ms": 12.5}
        got = alignment_report(*inputs_of([0, 1], InputEvents.none()), clock=clock, lag=lag)
        assert (got["clock"], got["lag"]) == (clock, lag)

    def test_a_number_that_is_not_finite_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            alignment_report(*inputs_of([0], InputEvents.none()), lag={"lag_ms": float("nan")})


def literal_reason(time: int, frames: list[int], gaps: tuple[int, ...], frame: int) -> str | None:
    """Why an event has no frame, event by event."""
    if frame >= 0:
        return None
    if time < frames[0]:
        return "before_first_frame"
    if time > frames[-1]:
        return "after_last_frame"
    upcoming = next((i for i, own in enumerate(frames) if own > time), None)
    return "in_gap" if upcoming in gaps else "beyond_window"


class TestWhatBecameOfEvents:
    @given(
        frames=st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True).map(sorted),
        events=st.lists(st.one_of(switches, moves), max_size=30),
        policy=st.sampled_from(POLICIES),
        window=st.integers(0, 20),
        latency=st.integers(-9, 9),
        gap=st.integers(1, 7),
    )
    @settings(max_examples=80, deadline=None)
    def test_counts_and_distances_are_those_of_the_events_one_by_one(
        self, frames, events, policy, window, latency, gap
    ) -> None:
        gaps = (gap,) if gap < len(frames) else ()
        given_inputs = inputs_of(frames, log_of(events), policy, window, latency, gaps)
        got, alignment = alignment_report(*given_inputs), given_inputs[3]
        times = sorted(event[0] + latency for event in events)
        frame_of = alignment.frame.tolist()
        reasons = [
            literal_reason(time, frames, gaps, frame)
            for time, frame in zip(times, frame_of, strict=True)
        ]
        for why in UNASSIGNED_WHY:
            assert got["unassigned_why"][why] == reasons.count(why)
        assert got["assigned"] + got["unassigned"] == got["events"] == len(events)
        assert sum(got["unassigned_why"].values()) == got["unassigned"]
        inside = [f for t, f in zip(times, frame_of, strict=True) if frames[0] <= t <= frames[-1]]
        expected = sum(f >= 0 for f in inside) / len(inside) if inside else None
        assert got["coverage"] == expected
        distances = sorted(
            abs(t - frames[f]) / 1000 for t, f in zip(times, frame_of, strict=True) if f >= 0
        )
        if distances:
            assert got["event_frame_distance_ms"] == {
                "p50": distances[len(distances) // 2],
                "p95": distances[len(distances) * 95 // 100],
                "max": distances[-1],
            }
        assert got["conservation"]["holds"] is True

    @given(
        frames=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6, unique=True).map(
            sorted
        ),
        times=st.lists(st.integers(0, 2**63 - 1), max_size=8),
        policy=st.sampled_from(["following", "preceding", "nearest"]),
        latency=st.integers(-(2**62) + 1, 2**62 - 1),
    )
    @example([-(2**63)], [2**63 - 1], "following", 0)
    @example([-(2**63), 2**63 - 2, 2**63 - 1], [], "nearest", 0)
    @example([0], [0], "following", 2**62 - 256)
    @settings(deadline=None)
    def test_no_time_is_too_far(self, frames, times, policy, latency) -> None:
        gaps = (1,) if len(frames) > 1 else ()
        log = log_of([move(time) for time in times])
        given_inputs = inputs_of(frames, log, policy, None, latency, gaps)
        got = alignment_report(*given_inputs)
        exact = [
            min(abs(t + latency - frames[f]), 2**63 - 1)
            for t, f in zip(sorted(times), given_inputs[3].frame.tolist(), strict=True)
            if f >= 0
        ]
        if exact:
            farthest = max(exact) if max(exact) < 2**62 else 2**63 - 1
            found = got["event_frame_distance_ms"]["max"] * 1000
            # What is too far is told in floating point, which is 512 us apart there.
            too_far = found > 2**62 * 1.5 and max(exact) >= 2**62 - 2048
            assert too_far or found == pytest.approx(farthest, rel=1e-9)
        if gaps:
            share = (frames[1] - frames[0]) / (frames[-1] - frames[0])
            assert got["gap_fraction"] == pytest.approx(share)


@given(
    events=st.lists(st.one_of(switches, moves, snapshots, positions), min_size=1, max_size=30),
    frames=st.lists(st.integers(0, 60), min_size=2, max_size=8, unique=True).map(sorted),
    block=st.sampled_from([1, 2, 5]),
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_a_log_of_many_blocks_is_reported_as_one_of_a_single_block(
    events, frames, block, data
) -> None:
    gaps = tuple(data.draw(st.sets(st.integers(0, len(frames) - 1))))
    given_inputs = inputs_of(frames, log_of(events), "nearest", 5, gaps=gaps)
    whole = alignment_report(*given_inputs)
    assert whole["conservation"]["holds"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synchronizer, "BLOCK_EVENTS", block)
        assert alignment_report(*given_inputs) == whole


def test_a_report_needs_no_more_memory_than_two_numbers_an_event_and_a_block() -> None:
    taps = [key(time, kind) for time in range(100_000) for kind in ("press", "release")]
    given_inputs = inputs_of(list(range(0, 100_000, 50)), log_of(taps), "nearest", 10)
    tracemalloc.start()
    try:
        alignment_report(*given_inputs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The distances and their sorted copy, of 8 bytes each, and what a block of events takes.
    block_bytes = 50 * synchronizer.BLOCK_EVENTS
    assert peak < 16 * len(taps) + block_bytes


def broken(given_inputs: tuple[Any, ...], name: str, change: Any) -> dict[str, Any]:
    """Return the report of a dataset in which one array or counter of /actions is wrong."""
    *others, made = given_inputs
    value = getattr(made, name)
    if isinstance(value, np.ndarray):
        value = value.copy()
        change(value)
    else:
        value = change(value)
    return alignment_report(*others, dataclasses.replace(made, **{name: value}))


def add_one(array: np.ndarray) -> None:
    array[1, 0] += 1


class TestConservation:
    LOG: tuple[Event, ...] = (
        key(11, "press"),
        key(12, "press"),
        key(13, "release"),
        key(14, "press", "left", "mouse"),
        key(15, "release", "left", "mouse"),
        key(16, "press", "pedal", "other"),
        key(16, "press", "pedal", "other"),
        key(17, "release", "b"),
        key(18, "press", "a"),
        key(99, "release", "a"),
        move(13, 5, -3),
        move(24, 2, 2),
        (14, "mouse", "scroll", None, (1, -4)),
    )

    def inputs(self) -> tuple[Any, ...]:
        return inputs_of([0, 10, 20], log_of(list(self.LOG)), "following", 30)

    @pytest.mark.parametrize(
        ("name", "change", "quantity"),
        [
            ("key_presses", add_one, "presses"),
            ("button_presses", lambda a: a.fill(0), "presses"),
            ("auto_repeats", lambda n: n + 1, "presses"),
            ("key_releases", lambda a: a.fill(0), "releases"),
            ("button_releases", add_one, "releases"),
            ("orphan_releases", lambda n: n - 1, "releases"),
            ("mouse", add_one, "mouse_dx"),
            ("mouse", lambda a: a[:, 1].fill(0), "mouse_dy"),
            ("mouse", lambda a: a[:, 1].fill(np.nan), "mouse_dy"),
            ("mouse", lambda a: a[:, 0].fill(np.inf), "mouse_dx"),
            ("scroll", add_one, "scroll_x"),
            ("scroll", lambda a: a[:, 1].__imul__(2), "scroll_y"),
        ],
    )
    def test_a_wrong_array_or_counter_is_noticed(self, name, change, quantity) -> None:
        sound = alignment_report(*self.inputs())["conservation"]
        assert sound["holds"] is True
        got = broken(self.inputs(), name, change)["conservation"]
        assert got["holds"] is False
        assert {name for name in QUANTITIES if got[name] != sound[name]} == {quantity}
        row = got[quantity]
        assert conservation.what_is_lost(got).startswith("/actions does not add up to the input")
        assert f"{quantity}: log {row['log']}, dataset {row['dataset']}" in (
            conservation.what_is_lost(got)
        )

    def test_an_event_given_to_no_frame_but_counted_in_one_is_noticed(self) -> None:
        frame_us, flags, log, alignment, made = self.inputs()
        frame = alignment.frame.copy()
        frame[0] = -1
        moved = dataclasses.replace(alignment, frame=frame)
        assert not alignment_report(frame_us, flags, log, moved, made)["conservation"]["holds"]

    @given(
        events=st.lists(st.one_of(switches, moves, snapshots, positions), min_size=1, max_size=30),
        frames=st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True).map(sorted),
        data=st.data(),
    )
    @settings(max_examples=80, deadline=None)
    def test_any_count_that_is_off_by_one_is_noticed(self, events, frames, data) -> None:
        given_inputs = inputs_of(frames, log_of(events), "nearest", 20)
        assert alignment_report(*given_inputs)["conservation"]["holds"]
        names = [
            name
            for name in (
                "key_presses",
                "key_releases",
                "button_presses",
                "button_releases",
                "mouse",
                "scroll",
            )
            if getattr(given_inputs[4], name).size
        ]
        name = data.draw(st.sampled_from(names))
        place = data.draw(st.integers(0, getattr(given_inputs[4], name).size - 1))
        got = broken(
            given_inputs,
            name,
            lambda array: array.reshape(-1).__setitem__(place, array.reshape(-1)[place] + 1),
        )
        assert got["conservation"]["holds"] is False

    @given(
        values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
        frames=st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True).map(sorted),
    )
    @settings(max_examples=80, deadline=None)
    def test_fractions_of_a_pixel_are_conserved_as_well_as_float32_can(
        self, values, frames
    ) -> None:
        events = [move(place, value, 2 * value) for place, value in enumerate(values)]
        assert report_of(frames, log_of(events), "following", 20)["conservation"]["holds"]

    def test_the_tolerance_of_fractions_hides_no_pixel(self) -> None:
        rng = np.random.default_rng(4)
        log = log_of([move(time, *rng.normal(0, 300, 2)) for time in range(20_000)])
        given_inputs = inputs_of(list(range(0, 20_000, 16)), log)
        assert alignment_report(*given_inputs)["conservation"]["holds"]
        assert not broken(given_inputs, "mouse", lambda a: a[5].__iadd__(0.1))["conservation"][
            "holds"
        ]

    def test_whole_counts_beyond_float32_balance_within_its_rounding(self) -> None:
        log = log_of([move(1, 2**24 - 1, 1), move(2, 4, 1), move(11, 5, 0)])
        given_inputs = inputs_of([0, 10], log)
        got = alignment_report(*given_inputs)["conservation"]
        assert got["mouse_dx"]["log"] == 2**24 + 8
        assert got["mouse_dx"]["dataset"] != got["mouse_dx"]["log"]
        assert got["holds"] is True
        assert not broken(given_inputs, "mouse", lambda a: a[1].__iadd__(2))["conservation"][
            "holds"
        ]

    def test_presses_beyond_what_a_count_holds_are_in_no_row(self) -> None:
        taps = [key(0, kind) for _ in range(65_540) for kind in ("press", "release")]
        given_inputs = inputs_of([0], log_of([*taps, key(0, "press", "b")]))
        got = alignment_report(*given_inputs)["conservation"]
        assert got["presses"] == {"log": 65_541, "dataset": 65_536, "unassigned": 5}
        assert got["holds"] is True
        less = broken(given_inputs, "key_presses", lambda a: a.fill(65_534))["conservation"]
        assert less["holds"] is False


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("session", "policy"),
    [("doom-640x480", "following"), ("doom-640x480", "window"), ("breakout-320x420", "preceding")],
)
def test_a_real_recording_is_conserved_and_reported_alike_each_time(session, policy) -> None:
    folder = RECORDINGS / session
    truth = json.loads((folder / "groundtruth.json").read_text(encoding="utf-8"))
    rows = (folder / "groundtruth.jsonl").read_text(encoding="utf-8").splitlines()
    frames = [json.loads(row)["t_us"] for row in rows]
    intervals = np.diff(frames)
    gaps = tuple((np.flatnonzero(intervals > GAP_FACTOR * np.median(intervals)) + 1).tolist())
    log = read_native(folder / "inputs.jsonl")
    given_inputs = inputs_of(frames, log, policy, 100_000, gaps=gaps)
    got = alignment_report(*given_inputs)
    assert json.dumps(got) == json.dumps(alignment_report(*given_inputs))
    assert got["events"] == truth["events"]
    assert got["conservation"]["holds"] is True
    assert got["conservation"]["presses"]["log"] > 10
    why = got["unassigned_why"]
    assert why["before_first_frame"] <= truth["events_before_first_frame"]
    assert why["after_last_frame"] <= truth["events_after_last_frame"]
    assert got["event_frame_distance_ms"]["max"] <= 100
    assert got["coverage"] > 0.9
