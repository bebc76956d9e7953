"""The reader of game-recorder: inputs belong to pictures by number, less the session's offset."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playmill.errors import ClockError, LogError, MissingStream
from playmill.inputs import DEVICES, KINDS, InputEvents, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.game_recorder import GameRecorderReader
from playmill.inputs.game_recorder_session import clock_pairs, read_frame_times
from playmill.inputs.reader import anchor_of

READER = GameRecorderReader()
SESSION = "20260421_022902"
NAME = f"{SESSION}_100_110"
FRAMES = 1_000_000 + 33_333 * np.arange(10, dtype=np.int64)
EPOCH_MS = 1_744_364_222_033
W = {"type": "key", "action": "down", "vk": 87, "key": "W"}


def line(frame: int, *events: Any) -> dict[str, Any]:
    return {"frame": frame, "events": list(events)}


def write_lines(path: Path, lines: Any) -> None:
    encoded = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in lines]
    path.write_bytes(b"".join(item + b"\n" for item in encoded))


def session(
    folder: Path, *lines: Any, name: str = NAME, meta: Any = None, times: Any = None, **said: Any
) -> LogFiles:
    """Write a segment; meta.json says `said`, on top of an offset of 0."""
    (folder / f"{name}.mp4").touch()
    write_lines(folder / f"{name}.jsonl", lines)
    content = {"event_video_sync_offset": 0, "fps": 30, "start_epoch_ms": EPOCH_MS} | said
    (folder / "meta.json").write_text(json.dumps(content) if meta is None else meta)
    if times is not None:
        write_lines(folder / "frame_timestamps.jsonl", times)
    found = READER.find(folder / f"{name}.mp4")
    assert found is not None
    return found


def read(folder: Path, *lines: Any, **said: Any) -> InputEvents:
    return READER.read(session(folder, *lines, **said), ReadOptions(line_us=FRAMES))


def described(events: InputEvents) -> list[tuple[Any, ...]]:
    rows = zip(events.timestamp_us, events.device, events.kind, events.code, strict=True)
    return [
        (int(t), DEVICES[d], KINDS[k], events.codes[c] if c >= 0 else None, *value)
        for (t, d, k, c), value in zip(rows, events.value.tolist(), strict=True)
    ]


def pictures(events: InputEvents) -> list[int]:
    """Return which picture each event has the time of; -1: none."""
    found = {time: picture for picture, time in enumerate(FRAMES.tolist())}
    return [found.get(time, -1) for time in events.timestamp_us.tolist()]


class TestEvents:
    def test_every_kind_of_event_is_read(self, tmp_path) -> None:
        mouse = {"type": "mouse"}
        events = read(
            tmp_path,
            line(
                103,
                W,
                {"type": "key", "action": "up", "vk": 0xA0, "key": "LShift"},
                {"type": "key", "action": "down", "vk": 0x10, "key": "Shift"},
                {"type": "key", "action": "down", "vk": 0x6B},
                mouse | {"action": "move", "dx": -3, "dy": 4},
                mouse | {"action": "move", "x": 960, "y": 540, "absolute": True},
                mouse | {"action": "left_down"},
                mouse | {"action": "x2_up"},
                mouse | {"action": "scroll", "x": 960, "y": 540, "scroll_delta": -240},
            ),
        )
        time = int(FRAMES[3])
        assert described(events) == [
            (time, "keyboard", "press", "W", 0, 0),
            (time, "keyboard", "release", "LShift", 0, 0),
            (time, "keyboard", "press", "Shift", 0, 0),
            (time, "keyboard", "press", "0x6B", 0, 0),
            (time, "mouse", "move", None, -3, 4),
            (time, "mouse", "position", None, 960, 540),
            (time, "mouse", "press", "left", 0, 0),
            (time, "mouse", "release", "x2", 0, 0),
            (time, "mouse", "scroll", None, 0, -2),
        ]
        codes = dict(zip(events.codes, events.w3c_codes or (), strict=True))
        assert codes == {
            "W": "KeyW", "LShift": "ShiftLeft", "Shift": "", "0x6B": "NumpadAdd",
            "left": "", "x2": "",
        }  # fmt: skip

    def test_moves_that_absolute_positions_make_are_not_in_counts(self, tmp_path) -> None:
        at = {"type": "mouse", "action": "move", "x": 30_000, "y": 100, "absolute": True}
        by = {"type": "mouse", "action": "move", "dx": 3, "dy": 1}
        assert read(tmp_path, line(101, at)).mouse_unit == "1/65536 of the screen"
        assert read(tmp_path, line(101, at, by)).mouse_unit == "counts"

    def test_the_first_event_of_a_line_carries_it(self, tmp_path) -> None:
        events = read(tmp_path, line(100, W, W), line(101, W))
        raw = [events.raw_line(place) for place in range(3)]
        assert raw == [json.dumps(line(100, W, W)).encode(), b"", json.dumps(line(101, W)).encode()]

    def test_numbers_are_those_of_the_session(self, tmp_path) -> None:
        events = read(tmp_path, line(100, W), line(109, W), line(104, W), line(104, W))
        assert pictures(events) == [0, 4, 4, 9]

    @pytest.mark.parametrize(("offset", "picture"), [(0, 5), (3, 2), (-2, 7), (2.0, 3)])
    def test_the_offset_is_subtracted(self, tmp_path, offset, picture) -> None:
        events = read(tmp_path, line(105, W), event_video_sync_offset=offset)
        assert pictures(events) == [picture]

    def test_inputs_outside_the_segment_have_the_times_of_no_picture(self, tmp_path) -> None:
        numbers = (98, 99, 110, 113)
        events = read(tmp_path, *(line(number, W) for number in numbers))
        assert pictures(events) == [-1] * 4
        steps = np.diff([*events.timestamp_us[:2], FRAMES[0], FRAMES[-1], *events.timestamp_us[2:]])
        assert steps.tolist() == [33_334, 33_333, 299_997, 33_333, 100_000]

    def test_the_offset_moves_inputs_between_segments(self, tmp_path) -> None:
        write_lines(
            tmp_path / f"{SESSION}_110_120.jsonl", [line(110, W), line(111, W, W), line(112, W)]
        )
        write_lines(tmp_path / f"{SESSION}_0_100.jsonl", [line(99, W), b"?", line(101, W)])
        events = read(tmp_path, line(100, W), line(109, W), event_video_sync_offset=2)
        assert pictures(events) == [-1, 7, 8, 9, 9]

    def test_another_session_beside_it_is_no_neighbour(self, tmp_path) -> None:
        write_lines(tmp_path / "20260421_030000_110_120.jsonl", [line(110, W)])
        assert pictures(read(tmp_path, line(101, W), event_video_sync_offset=1)) == [0]

    def test_without_its_video_a_log_counts_from_its_segment(self, tmp_path) -> None:
        events = READER.read(session(tmp_path, line(103, W)))
        assert events.timestamp_us.tolist() == [100_000]


BROKEN_LINES = {
    "torn": (b'{"frame":1', "not JSON"),
    "NUL": (b"\0" * 9, "not JSON"),
    "deep": (b"[" * 50_000, "nested too deep"),
    "a list": (b"[]", "is JSON list, not an object"),
    "no frame": ({"events": []}, '"frame" is None, not an int'),
    "a frame of text": (line("1"), '"frame" is str, not an int'),  # type: ignore[arg-type]
    "a huge frame": (line(2**32), '"frame" is 4294967296, not an int below 2**32'),
    "a negative time": (line(-1000), '"time of its frame" is negative'),
    "no events": ({"frame": 100}, '"events" is None, not a list'),
}
BROKEN_EVENTS = {
    "null": (None, "an event is None, not an object"),
    "no type": ({}, '"type" or "action" of an event is unknown'),
    "another type": ({"type": "pad", "action": "down"}, '"type" or "action"'),
    "another action": (W | {"action": "hold"}, '"type" or "action"'),
    "an action of a list": ({"type": "mouse", "action": ["move"]}, '"type" or "action"'),
    "no vk": (W | {"vk": None}, '"vk" is None, not an int from 1 to 255'),
    "vk beyond": (W | {"vk": 256}, '"vk" is 256, not an int from 1 to 255'),
    "a long name": (W | {"key": "k" * 101}, '"key" has 101 bytes, not 1 to 100'),
    "no dy": ({"type": "mouse", "action": "move", "dx": 1}, '"dy" is None, not an int'),
    "dx a float": ({"type": "mouse", "action": "move", "dx": 1.5, "dy": 0}, '"dx" is 1.5, not'),
    "dx huge": ({"type": "mouse", "action": "move", "dx": 2**40, "dy": 0}, "within +-16777216"),
    "no delta": ({"type": "mouse", "action": "scroll"}, '"scroll_delta" is None, not an int'),
}


class TestRejects:
    @pytest.mark.parametrize(("broken", "reason"), BROKEN_LINES.values(), ids=BROKEN_LINES)
    def test_a_broken_line_is_counted_and_kept(self, tmp_path, broken, reason) -> None:
        events = read(tmp_path, b"", line(100, W), broken, line(102, W))
        assert pictures(events) == [0, 2]
        assert events.rejected.line.tolist() == [3]
        assert reason in events.rejected.reason[0]
        assert events.rejected.raw.size

    @pytest.mark.parametrize(("broken", "reason"), BROKEN_EVENTS.values(), ids=BROKEN_EVENTS)
    def test_a_broken_event_is_counted_and_the_others_stay(self, tmp_path, broken, reason) -> None:
        made = line(100, broken, W, broken)
        events = read(tmp_path, made)
        assert events.rejected.line.tolist() == [1, 1]
        assert reason in events.rejected.reason[0]
        # The bytes of the line are kept once.
        assert events.rejected.raw.tobytes() == json.dumps(made).encode()
        assert [row[2] for row in described(events)] == ["press"]

    def test_an_empty_log_is_fine(self, tmp_path) -> None:
        assert len(read(tmp_path)) == 0

    def test_a_log_without_one_record_is_an_error(self, tmp_path) -> None:
        files = session(tmp_path, line(100, W))
        files.log.write_bytes(b"what\n[]\n")
        with pytest.raises(LogError, match=r"\.jsonl: line 1: found .* no event in the whole log"):
            READER.read(files)

    def test_missing_files_are_an_error(self, tmp_path) -> None:
        files = session(tmp_path, line(100, W), times=[])
        files.log.unlink()
        (tmp_path / "frame_timestamps.jsonl").unlink()
        with pytest.raises(MissingStream, match="no such file"):
            READER.read(files)
        with pytest.raises(MissingStream, match="no such file"):
            READER.anchor(files, video())


def video(count: int = 10, time_base: Fraction = Fraction(1, 30), first: int = 0) -> VideoTimes:
    marks = np.zeros((0, 2), np.int64)
    pts = first + np.arange(count, dtype=np.int64)
    return VideoTimes(pts=pts, time_base=time_base, clock_marks=marks)


def stamp(frame: Any, milli: Any, **more: Any) -> dict[str, Any]:
    return {"frame": frame, "t_capture_unix_ms": milli, "source_frame": frame} | more


class TestAnchor:
    def test_the_video_lies_where_most_pictures_were_taken(self, tmp_path) -> None:
        times = [stamp(100 + i, EPOCH_MS + 4000 + i * 100 / 3 + i % 3) for i in range(10)]
        anchor = READER.anchor(session(tmp_path, line(100, W), times=times), video())
        assert anchor is not None
        assert abs(anchor.pts_zero_us - (EPOCH_MS + 4001) * 1000) <= 1
        assert (anchor.clock, anchor.line_pts) == ("unix_us", tuple(range(10)))
        assert anchor.warnings == ()

    def test_a_wrong_rate_is_reported(self, tmp_path) -> None:
        times = [stamp(i, EPOCH_MS + i * 1000 / 29.97) for i in range(1800)]
        files = session(tmp_path, line(0, W), name=f"{SESSION}_0_1800", times=times)
        anchor = READER.anchor(files, video(1800))
        assert anchor is not None
        assert anchor.report is not None
        assert anchor.report["drift_ppm"] == pytest.approx(1001, abs=1)
        assert anchor.report["findings"]

    def test_without_times_of_pictures_the_session_says_when_it_began(self, tmp_path) -> None:
        files = session(tmp_path, line(100, W), event_video_sync_offset=2)
        anchor = READER.anchor(files, video(first=3))
        assert anchor is not None
        assert anchor.pts_zero_us == EPOCH_MS * 1000 + 3_400_000 - 100_000
        assert anchor.warnings == (
            "inputs belong to the frame 2 before their number, as meta.json says",
        )

    @pytest.mark.parametrize("meta", ["", "[]", "{", "\ufeff{}", '{"fps": NaN}'])
    def test_without_meta_the_times_are_those_of_the_session(self, tmp_path, meta) -> None:
        anchor = READER.anchor(session(tmp_path, line(100, W), meta=meta), video())
        assert anchor is not None
        assert (anchor.pts_zero_us, anchor.clock) == (3_333_333, "log_us")
        assert anchor.warnings == (
            "meta.json does not say event_video_sync_offset: it is taken for 0",
            "nothing says when the session began: its times count from there",
        )

    def test_lost_and_copied_frames_are_told(self, tmp_path) -> None:
        times = [stamp(100, EPOCH_MS), stamp(101, EPOCH_MS, duplicate=True, duplicate_of=100)]
        files = session(tmp_path, line(100, W), times=times, frame_drop_count=7)
        anchor = READER.anchor(files, video(9))
        assert anchor is not None
        assert [warning[:34] for warning in anchor.warnings] == [
            "9 frames in a video that should ha",
            "the recorder lost 7 frames: the nu",
            "1 copy of frames put in by the rec",
        ]

    @pytest.mark.parametrize(
        "odd",
        [
            stamp(None, 1.0), stamp(99, 1.0), stamp(110, 1.0), stamp("100", 1.0), stamp(100, None),
            stamp(100, -1), stamp(100, 1e300), stamp(100, 0), b"[]", b"\xff", b'{"frame":1e999}',
        ],
        ids=repr,
    )  # fmt: skip
    def test_times_that_make_no_sense_are_passed_over(self, tmp_path, odd) -> None:
        write_lines(tmp_path / "t", [odd, stamp(101, 5.0004), odd])
        times = read_frame_times(tmp_path / "t", start=100, num_frames=10)
        pts_us, unix_us = clock_pairs(times, FRAMES)
        assert (pts_us.tolist(), unix_us.tolist()) == ([FRAMES[1]], [5000])

    def test_times_beyond_64_bits_are_an_error(self, tmp_path) -> None:
        files = session(tmp_path, line(100, W))
        for far in (video(1, Fraction(1), 2**62), video(1, Fraction(1, 10**6), -(2**62))):
            with pytest.raises(ClockError, match=r"_100_110\.mp4: found times .* beyond 64 bits"):
                anchor_of(READER, files, far)


class TestFind:
    def test_the_files_of_a_session_are_found(self, tmp_path) -> None:
        found = session(tmp_path, line(100, W), times=[])
        assert found == LogFiles(
            video=tmp_path / f"{NAME}.mp4",
            log=tmp_path / f"{NAME}.jsonl",
            metadata=tmp_path / "meta.json",
            sides=(tmp_path / "frame_timestamps.jsonl",),
        )

    def test_one_of_several_segments_has_no_metadata_that_names_them_all(self, tmp_path) -> None:
        other = tmp_path / f"{SESSION}_0_100.jsonl"
        write_lines(other, [])
        found = session(tmp_path, line(100, W))
        assert (found.metadata, found.sides) == (None, (other, tmp_path / "meta.json"))

    def test_a_recording_may_have_a_name_of_its_own(self, tmp_path) -> None:
        session(tmp_path, line(100, W), name=f"p 1_{NAME}")

    def test_a_segment_without_inputs_is_one_if_its_session_says_so(self, tmp_path) -> None:
        assert session(tmp_path)
        (tmp_path / "meta.json").unlink()
        assert READER.find(tmp_path / f"{NAME}.mp4") is None

    @pytest.mark.parametrize("name", ["video.mp4", "20260421_0_10.mp4", f"{NAME}.mkv"])
    def test_a_video_of_another_name_is_left_alone(self, tmp_path, name) -> None:
        write_lines((tmp_path / name).with_suffix(".jsonl"), [line(100, W)])
        assert READER.find(tmp_path / name) is None

    @pytest.mark.parametrize(
        "content", [{"mouse": {}, "keyboard": {}}, {"t": 1, "type": "key_down"}, b"frame,events"]
    )
    def test_a_log_of_another_format_is_left_alone(self, tmp_path, content) -> None:
        write_lines(tmp_path / f"{NAME}.jsonl", [content])
        assert READER.find(tmp_path / f"{NAME}.mp4") is None
