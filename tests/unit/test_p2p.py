"""The reader of open-p2p: what was done on seeing frame i is annotation i + 1."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playmill import synchronizer
from playmill.alignment import actions
from playmill.errors import ClockError, LogError, MissingStream
from playmill.inputs import DEVICES, KINDS, InputEvents, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.p2p import P2pReader, clock_pairs
from playmill.inputs.p2p_messages import button_name, split_event
from playmill.inputs.protobuf_wire import Message, Rejected
from playmill.inputs.reader import anchor_of
from tests.unit.p2p_samples import (
    action,
    annotation,
    event,
    field,
    key_event,
    mouse,
    pad,
    varint,
    vector,
    video_annotation,
    write,
)

READER = P2pReader()
TICK = 50_000
TAKEN = [1_000_000, 1_047_000, 1_101_000, 1_150_000, 1_199_000]
"""When pictures were taken, with jitter; their frames are at 1.0, 1.05, 1.1, ... s."""
FRAMES = 1_000_000 + TICK * np.arange(5, dtype=np.int64)


def read(folder: Path, *annotations: bytes, frames: int | None = None) -> InputEvents:
    count = len(annotations) if frames is None else frames
    return READER.read(write(folder, *annotations), ReadOptions(line_us=FRAMES[:count]))


def described(events: InputEvents) -> list[tuple[Any, ...]]:
    rows = zip(events.timestamp_us, events.device, events.kind, events.code, strict=True)
    return [
        (int(t), DEVICES[d], KINDS[k], events.codes[c] if c >= 0 else None, *value)
        for (t, d, k, c), value in zip(rows, events.value.tolist(), strict=True)
    ]


def masks(events: InputEvents, name: str) -> list[tuple[int, int]]:
    return [(mask.start_us, mask.stop_us) for mask in events.masks if mask.name == name]


def held(events: InputEvents, frames: int, policy: Any = "following") -> list[list[str]]:
    """Return the keys that the dataset says are held at each frame."""
    frame_us = FRAMES[:frames]
    alignment = synchronizer.align(frame_us, events.timestamp_us, policy=policy, window_us=100_000)
    made = actions.build(frame_us, events, alignment)
    rows = made.keys
    return [[n for n, down in zip(made.key_names, row, strict=True) if down] for row in rows]


class TestLabels:
    @pytest.mark.parametrize("policy", ["following", "preceding", "nearest"])
    def test_keys_held_at_a_frame_are_those_of_the_next_annotation(self, tmp_path, policy) -> None:
        keys: list[list[str]] = [["a"], ["a", "w"], ["w"], [], ["d"]]
        events = read(tmp_path, *(annotation(action(keys=row)) for row in keys))
        assert held(events, 5, policy)[:4] == keys[1:]

    def test_differences_are_presses_and_releases_and_the_first_label_a_snapshot(
        self, tmp_path
    ) -> None:
        first = annotation(action(keys=["a"], mouse=mouse(buttons=["0"])))
        second = annotation(action(keys=["w"], mouse=mouse(buttons=["0", "2"])))
        events = read(tmp_path, first, second, annotation())
        assert described(events) == [
            (950_000, "keyboard", "state", "a", 1, 0),
            (950_000, "mouse", "state", "left", 1, 0),
            (1_000_000, "keyboard", "release", "a", 0, 0),
            (1_000_000, "keyboard", "press", "w", 0, 0),
            (1_000_000, "mouse", "press", "middle", 0, 0),
            (1_050_000, "keyboard", "release", "w", 0, 0),
            (1_050_000, "mouse", "release", "left", 0, 0),
            (1_050_000, "mouse", "release", "middle", 0, 0),
        ]
        assert events.raw_line(2) == second
        assert events.raw_line(3) == b""

    def test_moves_and_scrolls_are_those_of_the_label(self, tmp_path) -> None:
        moved = mouse(at=(5, 6), delta=(-3, 4), scroll=(0, -1))
        still = mouse(at=(5, 6), delta=(0, 0), scroll=(0, 0))
        events = read(tmp_path, *(annotation(action(mouse=part)) for part in (still, moved, still)))
        assert described(events) == [
            (950_000, "mouse", "position", None, 5, 6),
            (1_000_000, "mouse", "move", None, -3, 4),
            (1_000_000, "mouse", "scroll", None, 0, -1),
        ]

    @pytest.mark.parametrize(("delta", "unit"), [((0, 0), "pixels"), ((1, 0), "counts")])
    def test_moves_that_positions_make_are_in_pixels(self, tmp_path, delta, unit) -> None:
        parts = (mouse(at=(5, 6)), mouse(at=(8, 6), delta=delta))
        events = read(tmp_path, *(annotation(action(mouse=part)) for part in parts))
        assert events.mouse_unit == unit

    def test_a_gamepad_has_buttons_and_axes(self, tmp_path) -> None:
        used = pad(buttons=["south", "left_bumper"], left=(0.5, -1.0), pressed=True, trigger=0.25)
        events = read(tmp_path, annotation(), annotation(action(pad=used)), annotation())
        assert described(events) == [
            (1_000_000, "gamepad", "press", "left_bumper", 0, 0),
            (1_000_000, "gamepad", "press", "left_stick", 0, 0),
            (1_000_000, "gamepad", "press", "south", 0, 0),
            (1_000_000, "gamepad", "axis", "right_trigger", 0.25, 0),
            (1_000_000, "gamepad", "axis", "left_stick_x", 0.5, 0),
            (1_000_000, "gamepad", "axis", "left_stick_y", -1, 0),
            (1_050_000, "gamepad", "release", "left_bumper", 0, 0),
            (1_050_000, "gamepad", "release", "left_stick", 0, 0),
            (1_050_000, "gamepad", "release", "south", 0, 0),
        ]

    @pytest.mark.parametrize(
        "unknown", [annotation(None), annotation(action(known=False, keys=["x"])), annotation(b"")]
    )
    def test_an_unknown_label_carries_what_was_held(self, tmp_path, unknown) -> None:
        w = annotation(action(keys=["w"]))
        events = read(tmp_path, annotation(), w, unknown, annotation(), annotation())
        assert [row[:4] for row in described(events)] == [
            (1_000_000, "keyboard", "press", "w"),
            (1_100_000, "keyboard", "state", "w"),
        ]
        # Of annotation 2, the label of frame 1; and the last frame has no label.
        assert masks(events, "unknown") == [(1_050_000, 1_050_001), (1_200_000, 1_200_001)]

    def test_a_broken_annotation_keeps_its_place(self, tmp_path) -> None:
        w = annotation(action(keys=["w"]))
        broken = field(1, b"\x12\x7f")
        events = read(tmp_path, annotation(), w, broken, w, annotation())
        assert events.rejected.line.tolist() == [3]
        assert "ends 127 bytes after its message" in events.rejected.reason[0]
        assert events.rejected.raw.tobytes() == broken
        assert [row[0] for row in described(events)] == [1_000_000, 1_150_000]
        assert masks(events, "unknown")[0] == (1_050_000, 1_050_001)

    def test_what_a_model_did_is_masked(self, tmp_path) -> None:
        model = annotation(action(known=False), system=action(keys=["w"]))
        events = read(tmp_path, annotation(), annotation(), model, model, annotation())
        assert masks(events, "simulated") == [(1_050_000, 1_100_001)]
        assert masks(events, "unknown")[0] == (1_050_000, 1_100_001)


class TestEvents:
    def annotations(self) -> list[bytes]:
        """Five pictures; w is held from before the first to a time between the last two."""
        w = action(keys=["w"])
        tap = [key_event(1_060_000, "e"), key_event(1_061_000, "e", pressed=False)]
        release = [key_event(1_198_999, "w", pressed=False)]
        return [
            annotation(w, taken_us=TAKEN[0], events=[event(990_000, 5, vector(7, 0))]),
            annotation(w, taken_us=TAKEN[1], events=[event(1_023_500, 5, vector(-1, 2))]),
            annotation(w, taken_us=TAKEN[2], events=tap),
            annotation(w, taken_us=TAKEN[3]),
            annotation(taken_us=TAKEN[4], events=release),
        ]

    def test_events_lie_between_the_frames_as_they_lay_between_the_pictures(self, tmp_path) -> None:
        events = read(tmp_path, *self.annotations())
        assert described(events) == [
            (990_000, "mouse", "move", None, 7, 0),
            (1_000_000, "keyboard", "state", "w", 1, 0),
            (1_025_000, "mouse", "move", None, -1, 2),
            (1_062_037, "keyboard", "press", "e", 0, 0),
            (1_062_962, "keyboard", "release", "e", 0, 0),
            (1_199_998, "keyboard", "release", "w", 0, 0),
        ]
        assert events.raw_line(0) == event(990_000, 5, vector(7, 0))

    def test_the_policy_following_is_the_rule_of_the_format(self, tmp_path) -> None:
        rng = np.random.default_rng(0)
        taken = np.cumsum(rng.integers(20_000, 80_000, size=5)) + 1_000_000
        made = [annotation(taken_us=int(taken[0]))]
        for index in range(1, 5):
            times = sorted(rng.integers(taken[index - 1], taken[index], size=20).tolist())
            moves = [event(time, 5, vector(index, 0)) for time in times]
            made.append(annotation(taken_us=int(taken[index]), events=moves))
        events = read(tmp_path, *made)
        frame = synchronizer.assign(FRAMES, events.timestamp_us, policy="following", window_us=None)
        assert frame.tolist() == (events.value[:, 0] - 1).tolist()
        assert len(frame) == 80

    def test_held_keys_are_those_of_the_pictures(self, tmp_path) -> None:
        assert held(read(tmp_path, *self.annotations()), 5) == [["w"], ["w"], ["w"], ["w"], []]

    def test_every_kind_of_event_is_read(self, tmp_path) -> None:
        switch = field(1, "Left") + field(2, 1)
        south = field(1, "south") + field(2, 0)
        bumper = field(1, "left_trigger") + field(2, 1)
        happened = [
            event(1_000_001, 1, switch),
            event(1_000_002, 3, vector(1, 2)),
            event(1_000_003, 4, vector(0, -1)),
            event(1_000_004, 7, south),
            event(1_000_005, 7, bumper),
            event(1_000_006, 8, field(1, "left_stick_x") + field(2, 0.5)),
            event(1_000_007, 9, field(1, "left_trigger") + field(2, 1.0)),
        ]
        events = read(
            tmp_path,
            annotation(taken_us=TAKEN[0]),
            annotation(None, taken_us=TAKEN[1], events=happened),
        )
        assert [row[1:] for row in described(events)] == [
            ("mouse", "press", "left", 0, 0),
            ("mouse", "position", None, 1, 2),
            ("mouse", "scroll", None, 0, -1),
            ("gamepad", "release", "south", 0, 0),
            ("gamepad", "press", "left_bumper", 0, 0),
            ("gamepad", "axis", "left_stick_x", 0.5, 0),
            ("gamepad", "axis", "left_trigger", 1, 0),
        ]

    def test_what_a_model_pressed_is_masked(self, tmp_path) -> None:
        by_model = key_event(1_060_000, "w", simulated=True)
        events = read(
            tmp_path,
            *(annotation(taken_us=time) for time in TAKEN[:2]),
            annotation(taken_us=TAKEN[2], events=[by_model]),
            annotation(taken_us=TAKEN[3]),
        )
        assert masks(events, "simulated") == [(1_050_000, 1_050_001)]

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            (event(1_020_000, 11, b""), "an input event is of no known kind"),
            (event(1_020_000, 2, field(2, 1)), "a key, button or axis has no name"),
            (event(1_020_000, 2, field(1, b"\xff")), "field 1 is not UTF-8"),
            (event(1_020_000, 2, field(1, "k" * 101)), "has 101 bytes, not 1 to 100"),
            (event(1_020_000, 8, field(1, "x") + field(2, float("nan"))), "field 2 is nan"),
            (event(1_020_000, 5, field(1, "x")), "field 1 has the wire type 2, not 0"),
            (b"\x0a\x05\x01", "ends 4 bytes after its message"),
            (b"\x80" * 11, "a number at byte 0 has no end"),
            (b"\x0b", "has the wire type 3"),
            (b"\x02\x00", "has the number 0"),
        ],
    )
    def test_a_broken_event_is_counted_and_the_others_stay(self, tmp_path, broken, reason) -> None:
        events = read(
            tmp_path,
            annotation(taken_us=TAKEN[0]),
            annotation(
                action(keys=["w"]), taken_us=TAKEN[1], events=[broken, key_event(1_030_000, "w")]
            ),
        )
        assert reason in events.rejected.reason[0]
        assert events.rejected.line.tolist() == [2]
        assert [row[1:4] for row in described(events)] == [("keyboard", "press", "w")]

    @pytest.mark.parametrize("times", [(0, 0), (5_000_000, 1_000_000), (1_000_000, 1_000_000)])
    def test_pictures_with_impossible_times_put_events_just_after_their_frame(
        self, tmp_path, times
    ) -> None:
        first, second = times
        pressed = [key_event(1_020_000, "w")]
        events = read(
            tmp_path,
            annotation(taken_us=first),
            annotation(action(keys=["w"]), taken_us=second, events=pressed),
        )
        assert [row[0] for row in described(events)] == [1_000_001]

    @pytest.mark.parametrize("time_us", [0, 2**64 // 1000 - 1])
    def test_an_event_never_leaves_its_annotation(self, tmp_path, time_us) -> None:
        made = [annotation(taken_us=time) for time in TAKEN[:2]]
        last = annotation(None, taken_us=TAKEN[2], events=[key_event(time_us, "w")])
        ((time, *_),) = described(read(tmp_path, *made, last))
        assert FRAMES[1] < time < FRAMES[2]

    @pytest.mark.parametrize("times", [TAKEN, [0] * 5], ids=["with times", "without"])
    def test_what_came_late_is_not_held_at_the_picture_before(self, tmp_path, times) -> None:
        # The recorder's queue had it when picture 1 was taken, and annotation 1 does not know it.
        late = [key_event(TAKEN[1] - 200, "w")]
        labels = [[], [], ["w"], ["w"], ["w"]]
        made = [
            annotation(action(keys=keys), taken_us=time, events=late if number == 2 else [])
            for number, (keys, time) in enumerate(zip(labels, times, strict=True))
        ]
        events = read(tmp_path, *made)
        assert held(events, 5) == labels
        frame = synchronizer.assign(FRAMES, events.timestamp_us, policy="preceding", window_us=None)
        assert frame.tolist() == [2]


def video(count: int = 5, time_base: Fraction = Fraction(1, 20), first: int = 0) -> VideoTimes:
    marks = np.zeros((0, 2), np.int64)
    pts = first + np.arange(count, dtype=np.int64)
    return VideoTimes(pts=pts, time_base=time_base, clock_marks=marks)


@pytest.mark.parametrize(
    ("name", "one"),
    [("0", "left"), ("Left", "left"), ("left", "left"), ("2", "middle"), ("Unknown(7)", "7")],
)
def test_a_mouse_button_has_one_name(name, one) -> None:
    assert button_name(name) == one


class TestAnchor:
    def test_the_video_lies_where_most_pictures_say(self, tmp_path) -> None:
        anchor = READER.anchor(write(tmp_path, *(annotation(taken_us=t) for t in TAKEN)), video())
        assert anchor is not None
        assert (anchor.pts_zero_us, anchor.clock) == (1_000_000, "log_us")
        assert (anchor.line_pts, anchor.warnings) == ((0, 1, 2, 3, 4), ())

    def test_without_times_recording_began_a_tick_before_the_first_picture(self, tmp_path) -> None:
        anchor = READER.anchor(write(tmp_path, annotation(), annotation()), video(2, first=2))
        assert anchor is not None
        assert anchor.pts_zero_us == TICK - 100_000
        assert anchor.warnings == (
            "no annotation says when its picture was taken: times are the video's",
        )

    def test_annotations_and_frames_of_other_numbers_are_told(self, tmp_path) -> None:
        anchor = READER.anchor(write(tmp_path, *(annotation(taken_us=t) for t in TAKEN)), video(4))
        assert anchor is not None
        assert anchor.warnings == ("5 annotations for 4 frames: they are paired from the first on",)

    def test_times_beyond_64_bits_are_an_error(self, tmp_path) -> None:
        files = write(tmp_path, annotation(taken_us=1))
        for far in (video(1, Fraction(1), 2**62), video(1, Fraction(1, 10**6), 2**62 + 1)):
            with pytest.raises(ClockError, match=r"192x192\.mp4: found times .* beyond 64 bits"):
                anchor_of(READER, files, far)

    def test_two_videos_beside_one_log_are_one_too_many(self, tmp_path) -> None:
        files = write(tmp_path, annotation(taken_us=1))
        (tmp_path / "video.mp4").touch()
        with pytest.raises(ClockError, match=r"found 2 videos .*: 192x192\.mp4, video\.mp4; exp"):
            READER.anchor(files, video(1))
        (tmp_path / "video.mp4").rename(tmp_path / "preview.mp4")
        assert READER.anchor(files, video(1)) is not None

    def test_the_jitter_of_the_pictures_is_reported(self, tmp_path) -> None:
        taken = [1_000_000 + TICK * i + 4000 * (i % 2) for i in range(60)]
        made = write(tmp_path, *(annotation(taken_us=time) for time in taken))
        anchor = READER.anchor(made, video(60))
        assert anchor is not None
        assert anchor.report is not None
        assert anchor.report["source"] == "frame_time"
        assert anchor.report["residual_ms"]["max"] == 2.0

    def test_the_pairs_of_the_two_clocks_are_those_of_pictures_with_a_time(self) -> None:
        pts_us, taken_us = clock_pairs([5, 0, 7, 8], np.array([0, 10, 20], np.int64))
        assert (pts_us.tolist(), taken_us.tolist()) == ([0, 20], [5, 7])


class TestWholeLogs:
    def test_fewer_annotations_than_frames_leave_the_rest_unknown(self, tmp_path) -> None:
        events = read(tmp_path, annotation(), annotation(), frames=5)
        assert masks(events, "unknown") == [(1_050_000, 1_200_001)]

    def test_more_annotations_than_frames_come_after_the_last_one(self, tmp_path) -> None:
        made = [annotation(action(keys=[f"k{i}"]), taken_us=TAKEN[i]) for i in range(5)]
        times = sorted({row[0] for row in described(read(tmp_path, *made, frames=2))})
        assert times == [950_000, 1_000_000, 1_050_000, 1_104_000, 1_153_000]

    def test_without_its_video_a_log_has_the_times_of_its_pictures(self, tmp_path) -> None:
        made = [annotation(taken_us=TAKEN[0])]
        made.append(annotation(None, taken_us=TAKEN[1], events=[key_event(1_020_000, "w")]))
        assert READER.read(write(tmp_path, *made)).timestamp_us.tolist() == [1_020_000]

    @pytest.mark.parametrize("cut", [1, 2, 3, 20])
    def test_a_truncated_file_gives_what_is_whole(self, tmp_path, cut) -> None:
        w = annotation(action(keys=["w"]))
        files = write(tmp_path)
        files.log.write_bytes(
            video_annotation(annotation(), w, w + field(7, b"x" * 40))[: -2 - cut]
        )
        events = READER.read(files, ReadOptions(line_us=FRAMES))
        assert [row[2] for row in described(events)] == ["press"]
        assert events.rejected.line.tolist() == [3]
        assert "cannot be read from byte" in events.rejected.reason[0]

    def test_a_length_that_lies_reads_no_memory(self, tmp_path) -> None:
        files = write(tmp_path)
        lying = varint(3 << 3 | 2) + varint(2**63 - 1)
        files.log.write_bytes(video_annotation(annotation())[:-2] + lying)
        events = READER.read(files)
        assert events.rejected.total == 1
        assert "bytes after the file" in events.rejected.reason[0]

    def test_a_huge_annotation_is_rejected_and_the_next_is_read(self, tmp_path) -> None:
        huge = field(7, b"x" * (1 << 20))
        w = annotation(action(keys=["w"]))
        events = read(tmp_path, annotation(), huge, w, w, annotation())
        assert events.rejected.reason == ("is longer than 1048576 bytes",)
        assert [row[2] for row in described(events)] == ["state", "release"]

    def test_unknown_fields_are_passed_over(self, tmp_path) -> None:
        w = annotation(action(keys=["w"]) + field(77, "x") + varint(78 << 3 | 1) + b"8 bytes.")
        assert [row[2] for row in described(read(tmp_path, annotation(), w))] == ["press"]

    def test_an_empty_file_has_no_events(self, tmp_path) -> None:
        files = write(tmp_path)
        files.log.write_bytes(b"")
        assert len(READER.read(files, ReadOptions(line_us=FRAMES))) == 0

    def test_a_file_without_one_annotation_is_an_error(self, tmp_path) -> None:
        files = write(tmp_path)
        files.log.write_bytes(b"\xff" * 100)
        with pytest.raises(LogError, match=r"annotation\.proto: line 1: found .* no event"):
            READER.read(files)

    def test_a_missing_log_is_an_error(self, tmp_path) -> None:
        missing = LogFiles(video=tmp_path / "video.mp4", log=tmp_path / "annotation.proto")
        for call in (READER.read, lambda files: READER.anchor(files, video())):
            with pytest.raises(MissingStream, match="no such file"):
                call(missing)

    def test_names_have_their_w3c_codes(self, tmp_path) -> None:
        made = annotation(action(keys=["W", "LeftShift", "Shift"], mouse=mouse(buttons=["0"])))
        events = read(tmp_path, made)
        assert dict(zip(events.codes, events.w3c_codes or (), strict=True)) == {
            "W": "KeyW",
            "LeftShift": "ShiftLeft",
            "Shift": "",
            "left": "",
        }


class TestFind:
    @pytest.mark.parametrize("name", ["video.mp4", "192x192.mp4", "Video.MP4", "96x96.mp4"])
    def test_annotations_beside_their_video_are_found(self, tmp_path, name) -> None:
        made = write(tmp_path, annotation())
        (tmp_path / name).touch()
        assert READER.find(tmp_path / name) == LogFiles(video=tmp_path / name, log=made.log)

    def test_a_video_of_another_name_is_left_alone(self, tmp_path) -> None:
        write(tmp_path, annotation())
        assert READER.find(tmp_path / "recording.mp4") is None

    @pytest.mark.parametrize(
        "content",
        [b"", b'syntax = "proto3";\n', b"\x1a\xff\xff\x7f", b"\x18\x01", b"\xff" * 30],
        ids=["empty", "a schema", "a length that lies", "a number", "noise"],
    )
    def test_a_file_of_another_kind_is_left_alone(self, tmp_path, content) -> None:
        made = write(tmp_path)
        made.log.write_bytes(content)
        assert READER.find(made.video) is None


@given(value=st.integers(-(2**31), 2**31 - 1), large=st.integers(0, 2**64 - 1))
def test_numbers_are_what_they_were(value, large) -> None:
    message = Message(field(1, value) + field(2, large))
    assert (message.int32(1), message.uint(2), message.uint(9)) == (value, large, 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(data) -> None:
    try:
        message = Message(data)
    except Rejected:
        return
    for number in range(1, 16):
        for read_value in (message.uint, message.float, message.text, message.message):
            try:
                read_value(number)
            except Rejected:
                continue


class TestEventsThatComeAgain:
    """What an event says is read once, and its time each time."""

    def test_each_has_its_own_time_and_bytes(self, tmp_path) -> None:
        events = [
            [event(at, 5, vector(-1, 2)), key_event(at + 1000, "w"), event(at + 2000, 3, b"")]
            for at in (1_010_000, 1_060_000, 1_110_000)
        ]
        found = read(
            tmp_path,
            annotation(taken_us=1_000_000),
            *(annotation(taken_us=1_050_000 + TICK * i, events=e) for i, e in enumerate(events)),
        )
        rows = [row for row in described(found) if row[2] != "state"]
        assert [row[0] for row in rows] == [
            1_010_000 + TICK * i + more for i in range(3) for more in (0, 1000, 2000)
        ]
        assert [row[1:] for row in rows] == 3 * [
            ("mouse", "move", None, -1, 2),
            ("keyboard", "press", "w", 0, 0),
            ("mouse", "position", None, 0, 0),
        ]
        raw = [found.raw_line(i) for i in range(len(found)) if found.raw_line(i)]
        assert raw == [one for some in events for one in some]

    @pytest.mark.parametrize(
        "odd",
        [
            event(7, 2, field(1, "w") + field(2, 1)) + field(5, vector(1, 1)),  # says more
            field(6, 7000) + field(2, field(1, "w") + field(2, 1)),  # in another order
            event(7, 2, field(1, "w") + field(2, 1), simulated=True),
        ],
    )
    def test_one_that_only_begins_alike_is_read_whole(self, odd) -> None:
        assert split_event(key_event(7, "w")) is not None
        assert split_event(odd) is None

    @pytest.mark.parametrize("rest", [b"\xff" * 12, b"", b"\x80"])
    def test_one_whose_time_has_no_end_is_rejected(self, tmp_path, rest) -> None:
        good = key_event(1_010_000, "w")
        content = good[: 2 + good[1]] + field(6, 0)[:1]
        found = read(
            tmp_path,
            annotation(taken_us=1_000_000),
            annotation(taken_us=1_050_000, events=[good, content + rest, good]),
        )
        assert found.rejected.line.tolist() == [2]
        assert found.rejected.reason[0].endswith("has no end")
