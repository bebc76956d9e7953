"""What the player did at each frame, against a literal account of the log."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playmill import synchronizer
from playmill.alignment import actions
from playmill.config import POLICIES
from playmill.inputs import KINDS, InputEvents, Mask
from playmill.synchronizer import align, spans
from tests.unit.event_samples import Event, key, log_of, moves, positions, snapshots, switches
from tests.unit.log_samples import read_native

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"


def build(
    frames: list[int],
    log: InputEvents,
    policy: str = "following",
    window: int | None = None,
    latency: int = 0,
) -> actions.Actions:
    frame_us = np.array(frames, np.int64)
    alignment = align(
        frame_us, log.timestamp_us, policy=policy, window_us=window, latency_us=latency
    )
    return actions.build(frame_us, log, alignment)


def masked(log: InputEvents, *masks: tuple[str, int, int]) -> InputEvents:
    return replace(
        log,
        masks=tuple(Mask(name=name, start_us=start, stop_us=stop) for name, start, stop in masks),
    )


def column(array: np.ndarray) -> list[int]:
    assert array.shape[1] == 1
    return array[:, 0].tolist()


class TestSnapshots:
    def test_a_snapshot_corrects_what_is_held_and_counts_as_no_press(self) -> None:
        log = log_of(
            [
                (5, "keyboard", "state", "w", (1, 0)),
                key(15, "press"),  # it is down already
                (25, "keyboard", "state", "w", (0, 0)),
                key(35, "release"),  # it is up already
            ]
        )
        got = build([0, 10, 20, 30, 40], log)
        assert column(got.keys) == [0, 1, 1, 0, 0]
        assert column(got.keys_any) == [1, 1, 1, 0, 0]  # at a moment of its span
        assert int(got.key_presses.sum() + got.key_releases.sum()) == 0
        assert (got.auto_repeats, got.orphan_releases) == (1, 1)
        assert got.valid.tolist() == [1, 1, 1, 1, 0]

    def test_what_a_snapshot_within_the_span_says_is_down_at_a_moment_of_it(self) -> None:
        log = log_of([(0, "keyboard", "state", "w", (1, 0)), key(25, "release")])
        got = build([0, 10, 20, 30], log)
        assert column(got.keys) == [1, 1, 1, 0]
        assert column(got.keys_any) == [1, 1, 1, 0]
        got = build([0, 10, 20, 30], log, policy="line")
        assert column(got.keys_any) == [1, 1, 1, 0]

    def test_a_snapshot_of_nothing_changes_nothing(self) -> None:
        log = log_of([key(5, "press"), (15, "keyboard", "state", None, (0, 0))])
        assert column(build([0, 10, 20], log).keys) == [0, 1, 1]


class TestMasks:
    def test_a_frame_is_masked_if_some_of_its_time_on_screen_is(self) -> None:
        log = masked(log_of([]), ("gui", 15, 20), ("idle", 20, 21), ("idle", 90, 99))
        got = build([0, 10, 20, 30], log)
        assert got.mask_names == ("gui", "idle")
        assert got.masks.tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]
        assert got.valid.tolist() == [1, 1, 1, 0]

    def test_a_mask_before_the_first_frame_and_at_the_last_one(self) -> None:
        log = masked(log_of([]), ("gui", -9, 0), ("idle", 30, 31), ("unfocused", 31, 40))
        got = build([0, 10, 20, 30], log)
        assert got.masks[:, got.mask_names.index("gui")].tolist() == [0, 0, 0, 0]
        assert got.masks[:, got.mask_names.index("idle")].tolist() == [0, 0, 0, 1]
        assert got.masks[:, got.mask_names.index("unfocused")].tolist() == [0, 0, 0, 0]

    def test_unknown_input_is_not_valid_and_latency_moves_masks_too(self) -> None:
        log = masked(log_of([]), ("unknown", 5, 10))
        assert build([0, 10, 20, 30], log).valid.tolist() == [0, 1, 1, 0]
        assert build([0, 10, 20, 30], log, latency=10).valid.tolist() == [1, 0, 1, 0]


class TestPositions:
    POINTER = (
        (1, "mouse", "position", None, (100, 50)),
        (12, "mouse", "position", None, (103, 49)),
        (14, "mouse", "position", None, (103, 40)),
    )

    def test_a_log_of_positions_alone_moves_by_their_differences(self) -> None:
        assert build([0, 10, 20], log_of(list(self.POINTER))).mouse.tolist() == [
            [0, 0],
            [3, -10],
            [0, 0],
        ]

    def test_where_there_are_moves_positions_are_none(self) -> None:
        log = log_of([*self.POINTER, (15, "mouse", "move", None, (7, 0))])
        assert build([0, 10, 20], log).mouse.tolist() == [[0, 0], [7, 0], [0, 0]]


class TestLines:
    def test_an_event_is_the_frames_whose_time_it_has(self) -> None:
        log = log_of([key(0, "press"), key(10, "release"), key(10, "press", "a"), key(25, "press")])
        got = build([0, 10, 20], log, policy="line")
        assert column(got.key_presses[:, 1:]) == [1, 0, 0]
        assert column(got.keys[:, 1:]) == [1, 0, 0]
        assert got.valid.tolist() == [1, 1, 1]
        assert got.span_us.tolist() == [[0, 1], [10, 11], [20, 21]]


class TestKeys:
    def test_held_counts_every_event_up_to_the_frame_inclusive(self) -> None:
        got = build([0, 10, 20, 30], log_of([key(10, "press"), key(21, "release")]))
        assert column(got.keys) == [0, 1, 1, 0]

    def test_a_short_tap_shows_though_it_is_never_held_at_a_frame(self) -> None:
        got = build([0, 10, 20], log_of([key(12, "press"), key(15, "release")]))
        assert column(got.keys) == [0, 0, 0]
        assert column(got.keys_any) == [0, 1, 0]
        assert column(got.key_presses) == [0, 1, 0]
        assert column(got.key_releases) == [0, 1, 0]

    def test_any_includes_what_was_down_when_the_span_began(self) -> None:
        got = build([0, 10, 20, 30], log_of([key(5, "press"), key(22, "release")]))
        assert column(got.keys_any) == [1, 1, 1, 0]

    def test_any_leaves_out_what_was_released_before_the_span(self) -> None:
        got = build([0, 10], log_of([key(2, "press"), key(9, "release")]), "following", 3)
        assert got.span_us.tolist() == [[0, 4], [10, 14]]
        assert column(got.keys_any) == [1, 0]

    def test_auto_repeat_and_orphan_releases_change_nothing_and_are_counted(self) -> None:
        log = log_of(
            [
                key(1, "press"),
                key(2, "press"),
                key(3, "press"),
                key(4, "release"),
                key(5, "release"),
                key(12, "press", "a"),
            ]
        )
        got = build([0, 10, 20], log)
        assert got.key_names == ("a", "w")
        assert got.key_presses.tolist() == [[0, 1], [1, 0], [0, 0]]
        assert got.key_releases.tolist() == [[0, 1], [0, 0], [0, 0]]
        assert (got.auto_repeats, got.orphan_releases) == (2, 1)

    def test_an_event_of_no_frame_shows_in_held_state_alone(self) -> None:
        got = build([0, 100], log_of([key(50, "press")]), "following", 10)
        assert column(got.keys) == [0, 1]
        assert column(got.keys_any) == [0, 1]
        assert column(got.key_presses) == [0, 0]

    def test_more_presses_than_uint16_holds_are_the_most_it_holds(self) -> None:
        taps = [key(0, kind) for _ in range(65_537) for kind in ("press", "release")]
        got = build([0], log_of(taps))
        assert column(got.key_presses) == [65_535]

    def test_w3c_codes_stand_beside_the_names(self) -> None:
        got = build([0], log_of([key(0, "press", name) for name in ("w", "shift", "left")]))
        assert got.key_names == ("left", "shift", "w")
        assert got.w3c_codes == ("ArrowLeft", "", "KeyW")


class TestButtonsAndAxes:
    def test_buttons_of_mouse_and_gamepad_are_no_keys(self) -> None:
        log = log_of(
            [
                key(0, "press", "left", "mouse"),
                key(0, "press", "south", "gamepad"),
                key(0, "press", "left", "keyboard"),
                key(0, "press", "pedal", "other"),
            ]
        )
        got = build([0], log)
        assert got.key_names == ("left",)
        assert got.button_names == ("left", "south")
        assert got.buttons.tolist() == [[1, 1]]

    def test_a_name_of_two_devices_makes_all_buttons_say_their_device(self) -> None:
        log = log_of(
            [
                key(0, "press", "left", "mouse"),
                key(0, "press", "left", "gamepad"),
                key(0, "press", "back", "mouse"),
            ]
        )
        got = build([0], log)
        assert got.button_names == ("gamepad:left", "mouse:back", "mouse:left")

    def test_an_axis_keeps_its_last_value_until_the_next(self) -> None:
        log = log_of(
            [(time, "gamepad", "axis", "lx", (value, 0)) for time, value in ((5, 0.5), (25, -1))]
        )
        got = build([0, 10, 20, 30], log)
        assert got.axis_names == ("lx",)
        assert got.button_names == ()
        assert column(got.axes) == [0.5, 0.5, -1.0, -1.0]

    def test_moves_and_scrolls_are_summed_by_frame(self) -> None:
        log = log_of(
            [
                (1, "mouse", "move", None, (3, -1)),
                (9, "mouse", "move", None, (4, 1)),
                (12, "mouse", "scroll", None, (0, -2)),
                (13, "mouse", "position", None, (7, 7)),
            ]
        )
        got = build([0, 10], log)
        assert got.mouse.tolist() == [[7, 0], [0, 0]]
        assert got.scroll.tolist() == [[0, 0], [0, -2]]
        assert got.mouse.dtype == got.scroll.dtype == np.float32


class TestValid:
    @pytest.mark.parametrize(
        ("policy", "window", "expected"),
        [
            ("following", None, [1, 1, 1, 0]),
            ("following", 30, [1, 0, 1, 0]),
            ("following", 19, [0, 0, 0, 0]),
            ("preceding", None, [0, 1, 1, 1]),
            ("preceding", 30, [0, 1, 0, 1]),
            ("nearest", None, [0, 1, 1, 0]),
            ("nearest", 30, [0, 0, 0, 0]),
            ("window", 30, [0, 1, 0, 1]),
            ("window", 100, [0, 1, 1, 1]),
        ],
    )
    def test_a_span_cut_by_a_gap_or_the_end_is_not_valid(self, policy, window, expected) -> None:
        got = build([0, 30, 130, 160], InputEvents.none(), policy, window)
        assert got.valid.tolist() == expected

    def test_held_state_is_unknown_until_the_release_of_a_key_pressed_before_the_log(self) -> None:
        log = log_of([key(25, "release"), key(26, "press", "a"), key(27, "release", "a")])
        got = build([0, 10, 20, 30, 40], log)
        assert got.valid.tolist() == [0, 0, 0, 1, 0]
        assert got.orphan_releases == 1
        assert got.key_releases[:, 1].tolist() == [0, 0, 0, 0, 0]


def down_after(events: list[Event], name: str, device: str) -> bool:
    """Whether the key is down after `events`, in order."""
    down = False
    for _, its_device, kind, its_name, _ in events:
        if (its_device, its_name) == (device, name) and kind in ("press", "release"):
            down = kind == "press"
    return down


def literal_row(
    i: int,
    frames: list[int],
    events: list[Event],
    frame_of: list[int],
    span: list[int],
    latency: int,
    code: tuple[str, str],
) -> tuple[int, int, int, int]:
    """held, any, presses, releases of one code at one frame, from the words of the format."""
    device, name = code
    held = down_after([e for e in events if e[0] + latency <= frames[i]], name, device)
    any_down = down_after([e for e in events if e[0] + latency < span[0]], name, device)
    count: Counter[str] = Counter()
    for index, event in enumerate(events):
        before, after = events[:index], events[: index + 1]
        if frame_of[index] == i and event[1] == device and event[3] == name:
            change = (down_after(before, name, device), down_after(after, name, device))
            count["press"] += change == (False, True)
            count["release"] += change == (True, False)
    return held, any_down or count["press"] > 0, count["press"], count["release"]


def real_changes(events: list[Event]) -> list[str | None]:
    """The kind of each event that changes whether something is down, None for the others."""
    down: set[tuple[str, str | None]] = set()
    changes: list[str | None] = []
    for _, device, kind, name, _ in events:
        before = (device, name) in down
        if kind == "press":
            down.add((device, name))
        elif kind == "release":
            down.discard((device, name))
        changes.append(kind if before != ((device, name) in down) else None)
    return changes


class TestAgainstTheLiteralAccount:
    @given(
        frames=st.lists(st.integers(0, 60), max_size=8, unique=True).map(sorted),
        events=st.lists(st.one_of(switches, moves), max_size=20),
        policy=st.sampled_from(POLICIES),
        window=st.integers(0, 30),
        bounded=st.booleans(),
        latency=st.integers(-9, 9),
    )
    @settings(max_examples=200, deadline=None)
    def test_all_arrays_are_what_the_format_says(
        self, frames, events, policy, window, bounded, latency
    ) -> None:
        window = window if bounded or policy == "window" else None
        events = sorted(events, key=lambda event: event[0])
        log, frame_us = log_of(events), np.array(frames, np.int64)
        alignment = align(
            frame_us, log.timestamp_us, policy=policy, window_us=window, latency_us=latency
        )
        got = actions.build(frame_us, log, alignment)
        assert np.array_equal(got.span_us, spans(frame_us, policy=policy, window_us=window))
        frame_of, span = alignment.frame.tolist(), got.span_us.tolist()
        tables = (
            (got.key_names, got.keys, got.keys_any, got.key_presses, got.key_releases),
            (
                got.button_names,
                got.buttons,
                got.buttons_any,
                got.button_presses,
                got.button_releases,
            ),
        )
        for names, *arrays in tables:
            for c, label in enumerate(names):
                device, _, name = label.rpartition(":")
                if not device and names is got.button_names:
                    device = next(e[1] for e in events if e[3] == name and e[1] != "keyboard")
                for i in range(len(frames)):
                    row = tuple(int(array[i, c]) for array in arrays)
                    code = (device or "keyboard", name)
                    assert row == literal_row(i, frames, events, frame_of, span[i], latency, code)
        for i in range(len(frames)):
            for kind, array in (("move", got.mouse), ("scroll", got.scroll)):
                mine = [
                    e[4] for e, f in zip(events, frame_of, strict=True) if (f, e[2]) == (i, kind)
                ]
                assert array[i].tolist() == [sum(x for x, _ in mine), sum(y for _, y in mine)]

    @given(
        frames=st.lists(st.integers(0, 60), max_size=8, unique=True).map(sorted),
        events=st.lists(st.one_of(switches, moves), max_size=30),
        policy=st.sampled_from(POLICIES),
        window=st.integers(0, 30),
    )
    @settings(max_examples=100, deadline=None)
    def test_nothing_is_lost_between_frames_and_the_unassigned(
        self, frames, events, policy, window
    ) -> None:
        log, frame_us = log_of(events), np.array(frames, np.int64)
        alignment = align(frame_us, log.timestamp_us, policy=policy, window_us=window)
        got = actions.build(frame_us, log, alignment)
        free = alignment.frame < 0
        for kind, sums in (("move", got.mouse), ("scroll", got.scroll)):
            chosen = log.kind == KINDS.index(kind)
            left = log.value[chosen & free].sum(axis=0)
            assert (sums.sum(axis=0) + left == log.value[chosen].sum(axis=0)).all()
        changes = real_changes(sorted(events, key=lambda event: event[0]))
        for kind, arrays, ignored in (
            ("press", (got.key_presses, got.button_presses), got.auto_repeats),
            ("release", (got.key_releases, got.button_releases), got.orphan_releases),
        ):
            real = np.array([change == kind for change in changes], bool)
            assert sum(int(array.sum()) for array in arrays) + (real & free).sum() == real.sum()
            assert real.sum() + ignored == (log.kind == KINDS.index(kind)).sum()


axes = st.tuples(
    st.integers(0, 60),
    st.just("gamepad"),
    st.just("axis"),
    st.sampled_from(["x", "y"]),
    st.tuples(st.integers(-9, 9), st.just(0)),
)


class TestBlocks:
    @given(
        frames=st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True).map(sorted),
        events=st.lists(st.one_of(switches, snapshots, positions, axes), max_size=40),
        moved=st.lists(moves, max_size=9),
        policy=st.sampled_from([*POLICIES, "line"]),
        window=st.one_of(st.none(), st.integers(0, 30)),
        latency=st.integers(-9, 9),
        block=st.integers(1, 9),
        cells=st.sampled_from([1, 40, 90]),
    )
    @settings(max_examples=100, deadline=None)
    def test_where_blocks_are_cut_changes_nothing(
        self, frames, events, moved, policy, window, latency, block, cells
    ) -> None:
        window = 9 if policy == "window" and window is None else window
        log = masked(log_of([*events, *moved]), ("unknown", 10, 20))
        whole = build(frames, log, policy, window, latency)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(synchronizer, "BLOCK_EVENTS", block)
            patch.setattr(synchronizer, "BLOCK_CELLS", cells)
            cut = build(frames, log, policy, window, latency)
        for spec in fields(whole):
            mine, expected = getattr(cut, spec.name), getattr(whole, spec.name)
            assert np.array_equal(mine, expected) if spec.type[:2] == "ND" else mine == expected

    def test_a_sum_of_fractions_has_the_bits_of_adding_them_in_order(self) -> None:
        rng = np.random.default_rng(0)
        values = rng.normal(scale=1e4, size=(500, 2)).astype(np.float32)
        log = log_of([(i, "mouse", "move", None, tuple(v)) for i, v in enumerate(values.tolist())])
        total = np.zeros(2)
        for value in values:
            total += value
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(synchronizer, "BLOCK_EVENTS", 100)
            got = build([0, 500], log)
        assert got.mouse[0].tobytes() == total.astype(np.float32).tobytes()


class TestShapes:
    @pytest.mark.parametrize("policy", POLICIES)
    def test_no_frames_and_no_events_are_fine(self, policy) -> None:
        assert build([], InputEvents.none(), policy, 5).keys.shape == (0, 0)
        assert build([], log_of([key(0, "press")]), policy, 5).keys.shape == (0, 1)
        axis = log_of([(0, "gamepad", "axis", "x", (1, 0))])
        assert build([], axis, policy, 5).axes.shape == (0, 1)
        empty = build([1, 2], InputEvents.none(), policy, 5)
        assert (empty.keys.shape, empty.axes.shape, empty.mouse.shape) == ((2, 0), (2, 0), (2, 2))
        assert build([1], log_of([key(0, "press")]), policy, 5).keys.shape == (1, 1)

    def test_arrays_have_the_types_of_the_format_and_cannot_be_written(self) -> None:
        got = build([0, 10], log_of([key(5, "press")]))
        assert (got.keys.dtype, got.keys_any.dtype, got.valid.dtype) == (np.uint8,) * 3
        assert (got.key_presses.dtype, got.key_releases.dtype) == (np.uint16,) * 2
        assert (got.span_us.dtype, got.axes.dtype) == (np.int64, np.float32)
        with pytest.raises(ValueError, match="read-only"):
            got.keys[0] = 1

    def test_an_alignment_of_something_else_is_refused(self) -> None:
        log = log_of([key(5, "press")])
        other = align(np.array([1, 2], np.int64), log.timestamp_us, policy="nearest", window_us=5)
        with pytest.raises(ValueError, match="is not that of 1 frames and InputEvents"):
            actions.build(np.array([1], np.int64), log, other)


@pytest.mark.needs_shared
@pytest.mark.parametrize("session", ["doom-640x480", "breakout-320x420"])
def test_a_real_recordings_actions_equal_its_ground_truth(session) -> None:
    folder = RECORDINGS / session
    text = (folder / "groundtruth.jsonl").read_text(encoding="utf-8")
    truth: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    log = read_native(folder / "inputs.jsonl")
    got = build([row["t_us"] for row in truth], log, "preceding")
    for i, row in enumerate(truth):
        held = [name for name, down in zip(got.key_names, got.keys[i], strict=True) if down]
        buttons = [n for n, down in zip(got.button_names, got.buttons[i], strict=True) if down]
        assert (held, buttons) == (row["keys"], row["buttons"])
        assert got.mouse[i].tolist() == [row["dx"], row["dy"]]
        assert got.scroll[i].tolist() == [0, row["wheel"]]
