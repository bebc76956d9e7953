"""Events go to frames exactly as the written rules say, whatever the times."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playmill import synchronizer
from playmill.config import POLICIES
from playmill.synchronizer import (
    INT64_MAX,
    INT64_MIN,
    DataSynchronizer,
    align,
    assign,
    blocks,
    events_before,
    events_until,
    spans,
)
from tests.unit.log_samples import read_native

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"
INFINITY = float("inf")

near = st.integers(-30, 60)
far = st.one_of(
    near.map(lambda time: time + 30 - 2**63 + 1),
    near.map(lambda time: 2**63 - 61 + time),
    near.map(lambda time: max(time, 0)),
)
times = st.one_of(near, far)
frame_lists = st.one_of(
    st.lists(near, max_size=12, unique=True).map(sorted),
    st.lists(times, max_size=12, unique=True).map(sorted),
)
event_lists = st.one_of(st.lists(near, max_size=25), st.lists(times, max_size=25))
windows = st.one_of(st.integers(0, 25), st.sampled_from([2**62, 2**63, 2**64, 2**70]))
latencies = st.one_of(
    st.integers(-20, 20),
    st.sampled_from([2**63 - 1, -(2**63), 2**64, -(2**64), 2**70, -(2**70)]),
)


def array(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def frame_of(t: int, frames: list[int], policy: str, window: int | None) -> int:
    """The rules of docs/time-and-sync.md, word for word, for one event at t' = t."""
    for i, own in enumerate(frames):
        before = frames[i - 1] if i else -INFINITY
        after = frames[i + 1] if i + 1 < len(frames) else INFINITY
        close = window is None or abs(t - own) <= window
        if policy == "following":
            mine = own <= t < after
        elif policy == "preceding":
            mine = before < t <= own
        elif policy == "nearest":
            mine = all(abs(t - own) < abs(t - other) for other in frames[:i])
            mine = mine and all(abs(t - own) <= abs(t - other) for other in frames[i:])
        else:
            mine = True
        if mine and close:
            return i
    return -1


class TestRules:
    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ("following", [-1, 0, 0, 0, 0, 1, 1, 2, 2]),
            ("preceding", [0, 0, 1, 1, 1, 1, 2, 2, -1]),
            ("nearest", [0, 0, 0, 0, 1, 1, 1, 2, 2]),
            ("window", [0, 0, 0, 0, 0, 0, 1, 1, 2]),
        ],
        ids=POLICIES,
    )
    def test_each_policy_gives_the_frame_that_its_rule_names(self, policy, expected) -> None:
        frames = array([100, 200, 300])
        events = array([60, 100, 110, 150, 151, 200, 201, 300, 350])
        got = assign(frames, events, policy=policy, window_us=100)
        assert got.tolist() == expected

    @pytest.mark.parametrize("policy", POLICIES)
    def test_the_window_includes_its_ends(self, policy) -> None:
        frames, events = array([1000]), array([899, 900, 1000, 1100, 1101])
        got = assign(frames, events, policy=policy, window_us=100)
        sides = {"following": (-1, 0), "preceding": (0, -1)}
        left, right = sides.get(policy, (0, 0))
        assert got.tolist() == [-1, left, 0, right, -1]

    def test_a_positive_latency_moves_events_to_later_frames(self) -> None:
        frames, events = array([0, 100, 200]), array([90, 150])
        assert assign(frames, events, policy="following", window_us=None).tolist() == [0, 1]
        later = assign(frames, events, policy="following", window_us=None, latency_us=50)
        assert later.tolist() == [1, 2]

    @given(
        frames=frame_lists,
        events=event_lists,
        policy=st.sampled_from(POLICIES),
        window=windows,
        latency=latencies,
        bounded=st.booleans(),
        block=st.sampled_from([1, 2, 5, synchronizer.BLOCK_EVENTS]),
    )
    @example([INT64_MIN, INT64_MAX], [INT64_MAX], "nearest", 0, 0, False, 1)
    @example([INT64_MAX], [INT64_MAX], "preceding", 2**64, 0, True, 1)
    @example([0], [INT64_MAX], "following", 2**63 - 1, 1, True, 1)
    @example([0, 9], [8, 8, 7, 7, 1, 1, 9], "following", 0, 0, False, 2)
    @settings(max_examples=300, deadline=None)
    def test_assignment_equals_the_rules_taken_literally(
        self, frames, events, policy, window, latency, bounded, block
    ) -> None:
        window = window if bounded or policy == "window" else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(synchronizer, "BLOCK_EVENTS", block)
            alignment = align(
                array(frames), array(events), policy=policy, window_us=window, latency_us=latency
            )
        expected = [frame_of(t + latency, frames, policy, window) for t in events]
        assert alignment.frame.tolist() == expected
        bounds = spans(array(frames), policy=policy, window_us=window)[:, 0].tolist()
        if not latency:
            assert alignment.begin.tolist() == [sum(t < own for t in events) for own in bounds]
        assert alignment.assigned + alignment.unassigned == len(events)
        for i in range(len(frames)):
            mine = alignment.events[alignment.offsets[i] : alignment.offsets[i + 1]].tolist()
            in_time_order = sorted(
                (e for e in range(len(events)) if expected[e] == i), key=events.__getitem__
            )
            assert mine == in_time_order

    @given(
        frames=frame_lists,
        events=event_lists,
        policy=st.sampled_from(POLICIES),
        window=windows,
        bounded=st.booleans(),
    )
    @settings(max_examples=150, deadline=None)
    def test_an_event_is_a_frames_exactly_when_the_frames_span_holds_it(
        self, frames, events, policy, window, bounded
    ) -> None:
        window = window if bounded or policy == "window" else None
        got = assign(array(frames), array(events), policy=policy, window_us=window).tolist()
        bounds = spans(array(frames), policy=policy, window_us=window)
        assert bounds.shape == (len(frames), 2)
        for t, frame in zip(events, got, strict=True):
            holders = [
                i
                for i, (start, stop) in enumerate(bounds.tolist())
                if start <= t and (t < stop or stop == INT64_MAX)
            ]
            # At INT64_MAX itself a stop of INT64_MAX can be a true bound as well as infinity.
            assert holders == [frame] * (frame >= 0) or t == INT64_MAX

    @given(frames=frame_lists, policy=st.sampled_from(POLICIES), window=windows)
    @settings(max_examples=150, deadline=None)
    def test_spans_ascend_and_are_disjoint(self, frames, policy, window) -> None:
        bounds = spans(array(frames), policy=policy, window_us=window)
        assert (bounds[:, 0] <= bounds[:, 1]).all()
        assert (bounds[:-1, 1] <= bounds[1:, 0]).all()

    @given(frames=frame_lists, events=event_lists.map(sorted), latency=latencies)
    @settings(max_examples=150, deadline=None)
    def test_events_until_counts_the_events_up_to_each_frame(self, frames, events, latency) -> None:
        got = events_until(array(frames), array(events), latency_us=latency)
        assert got.tolist() == [sum(t + latency <= own for t in events) for own in frames]
        got = events_before(array(frames), array(events), latency_us=latency)
        assert got.tolist() == [sum(t + latency < own for t in events) for own in frames]


class TestBlocks:
    @given(
        begin=st.lists(st.integers(0, 40), max_size=12).map(sorted),
        more=st.integers(0, 9),
        block=st.integers(1, 15),
        cells=st.integers(1, 15),
    )
    @settings(max_examples=150, deadline=None)
    def test_every_frame_and_event_is_in_one_block_and_a_frames_events_are_in_its_own(
        self, begin, more, block, cells
    ) -> None:
        num_events = max(begin, default=0) + more
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(synchronizer, "BLOCK_EVENTS", block)
            patch.setattr(synchronizer, "BLOCK_CELLS", cells)
            got = list(blocks(array(begin), num_events, columns=3))
        for place, ends in ((0, len(begin)), (1, num_events)):
            edges = [0, *(pair[place].stop for pair in got)]
            assert [pair[place].start for pair in got] == edges[:-1]
            assert edges[-1] == ends
        for frames, span in got:
            assert frames.stop - frames.start <= max(cells // 3, 1)
            if frames.start:
                assert span.start == begin[frames.start]
            if frames.stop - frames.start > 1 and frames.stop < len(begin):
                assert span.stop - span.start <= block


class TestSpans:
    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ("following", [[100, 200], [200, INT64_MAX]]),
            ("preceding", [[INT64_MIN, 101], [101, 201]]),
            ("nearest", [[INT64_MIN, 151], [151, INT64_MAX]]),
        ],
    )
    def test_without_a_window_spans_are_bounded_by_the_neighbours(self, policy, expected) -> None:
        assert spans(array([100, 200]), policy=policy, window_us=None).tolist() == expected

    def test_a_window_span_is_what_no_earlier_frame_has(self) -> None:
        got = spans(array([100, 130, 500]), policy="window", window_us=50)
        assert got.tolist() == [[50, 151], [151, 181], [450, 551]]


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"policy": "newest"}, "policy='newest' is none of following, preceding"),
            ({"policy": "window", "window_us": None}, "'window' needs a window"),
            ({"window_us": -1}, "window_us=-1 is negative"),
            ({"frame_us": array([1, 2, 2])}, "does not ascend strictly at frame 2"),
            ({"frame_us": np.array([1.0, 2.0])}, r"\(2,\) float64, not \(N,\) int64"),
            ({"event_us": array([INT64_MIN])}, "minus infinity"),
        ],
        ids=["policy", "no window", "negative window", "frame times", "dtype", "event time"],
    )
    def test_they_are_value_errors(self, change, message) -> None:
        sound = {"frame_us": array([1, 2]), "event_us": array([1]), "policy": "following"}
        with pytest.raises(ValueError, match=message):
            align(**{**sound, "window_us": 5, **change})


class SketchSynchronizer:
    """The project's first rule, literally."""

    def __init__(self, sync_window_ms: int = 100) -> None:
        self.sync_window_ms = sync_window_ms
        self.frame_buffer: deque[dict[str, Any]] = deque()
        self.input_buffer: deque[dict[str, Any]] = deque()

    def sync_data(self) -> list[tuple[str, list[dict[str, Any]]]]:
        synced_data = []
        while self.frame_buffer and self.input_buffer:
            frame = self.frame_buffer[0]
            frame_time = frame["timestamp"]
            matching_inputs = []
            while self.input_buffer:
                input_event = self.input_buffer[0]
                time_diff = abs(input_event["timestamp"] - frame_time)
                if time_diff <= self.sync_window_ms * 1000:
                    matching_inputs.append(input_event["data"])
                    self.input_buffer.popleft()
                elif input_event["timestamp"] < frame_time:
                    self.input_buffer.popleft()
                else:
                    break
            synced_data.append((frame["frame_id"], matching_inputs))
            self.frame_buffer.popleft()
        return synced_data


ms_times = st.lists(st.integers(0, 400_000), max_size=20)


class TestOneItemForm:
    @given(frames=ms_times, inputs=ms_times, window_ms=st.integers(0, 60))
    @settings(max_examples=150, deadline=None)
    def test_it_equals_the_first_sketch_and_adds_the_frames_that_it_lost(
        self, frames, inputs, window_ms
    ) -> None:
        ours, sketch = DataSynchronizer(window_ms), SketchSynchronizer(window_ms)
        for index, time in enumerate(sorted(frames)):
            ours.add_frame(f"f{index}", time, np.zeros(2))
            sketch.frame_buffer.append({"frame_id": f"f{index}", "timestamp": time})
        for index, time in enumerate(sorted(inputs)):
            ours.add_input(time, {"n": index})
            sketch.input_buffer.append({"timestamp": time, "data": {"n": index}})
        got = [(item.frame_id, item.inputs) for item in ours.sync_data()]
        expected = sketch.sync_data()
        assert got[: len(expected)] == expected
        lost = got[len(expected) :]
        assert lost == [(f"f{index}", []) for index in range(len(expected), len(frames))]

    def test_every_frame_comes_back_with_its_features_and_the_rule(self) -> None:
        synchronizer = DataSynchronizer(sync_window_ms=50, policy="following", latency_ms=1.5)
        features = np.arange(3.0)
        synchronizer.add_frame("b", 200_000, features)
        synchronizer.add_frame("a", 100_000, features)
        synchronizer.add_input(109_000, {"key": "w"})
        synchronizer.add_input(98_500, {"key": "a"})
        first, second = synchronizer.sync_data()
        assert (first.frame_id, first.timestamp, second.frame_id) == ("a", 100_000, "b")
        assert first.frame_features is features
        assert first.inputs == [{"key": "a"}, {"key": "w"}]
        assert first.input_timestamps == [98_500, 109_000]
        assert (second.inputs, second.input_timestamps) == ([], [])
        rule = {"sync_window_ms": 50, "policy": "following", "latency_ms": 1.5}
        assert first.metadata == rule

    def test_it_forgets_what_it_has_returned(self) -> None:
        synchronizer = DataSynchronizer()
        synchronizer.add_frame("a", 0, None)
        synchronizer.add_input(10**9, {})
        assert len(synchronizer.sync_data()) == 1
        synchronizer.add_frame("b", 10**9, None)
        assert [item.inputs for item in synchronizer.sync_data()] == [[]]
        assert synchronizer.sync_data() == []

    def test_numpy_integers_are_times_and_floats_are_not(self) -> None:
        synchronizer = DataSynchronizer()
        synchronizer.add_frame("a", np.int64(5), None)
        assert type(synchronizer.sync_data()[0].timestamp) is int
        with pytest.raises(TypeError, match="integer"):
            synchronizer.add_input(0.5, {})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="not within int64"):
            synchronizer.add_frame("a", 2**63, None)

    def test_wrong_settings_are_told_at_once(self) -> None:
        with pytest.raises(ValueError, match="needs a window"):
            DataSynchronizer(None)
        with pytest.raises(ValueError, match="is none of"):
            DataSynchronizer(policy="newest")  # type: ignore[arg-type]


def ground_truth(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "groundtruth.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.needs_shared
@pytest.mark.parametrize("session", ["doom-640x480", "breakout-320x420"])
def test_unbounded_preceding_events_are_those_of_the_ground_truth(session) -> None:
    folder = RECORDINGS / session
    truth = ground_truth(folder)
    events = read_native(folder / "inputs.jsonl")
    frame_us = array([row["t_us"] for row in truth])
    alignment = align(frame_us, events.timestamp_us, policy="preceding", window_us=None)
    for i, row in enumerate(truth):
        mine = alignment.events[alignment.offsets[i] : alignment.offsets[i + 1]]
        assert [json.loads(events.raw_line(event)) for event in mine] == row["events"]


@pytest.mark.needs_shared
@pytest.mark.parametrize("policy", POLICIES)
def test_a_real_recording_is_assigned_as_the_rules_say(policy) -> None:
    folder = RECORDINGS / "doom-640x480"
    frames = [row["t_us"] for row in ground_truth(folder)[:100]]
    events = read_native(folder / "inputs.jsonl").timestamp_us[:350]
    got = assign(array(frames), events, policy=policy, window_us=20_000, latency_us=-3_000)
    expected = [frame_of(t - 3_000, frames, policy, 20_000) for t in events.tolist()]
    assert got.tolist() == expected
