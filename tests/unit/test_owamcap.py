"""The reader of OWAMcap: every message is an event, a frame's stamp, or rejected with a reason."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from playmill.alignment.actions import build
from playmill.errors import ClockError, LogError, MissingStream
from playmill.inputs import DEVICES, KINDS, InputEvents, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.owamcap import OWAMcapReader
from playmill.inputs.reader import anchor_of
from playmill.inputs.stop_chord import chord_names
from playmill.synchronizer import align
from playmill.video_index import index_video
from tests.conftest import SHARED
from tests.unit.mcap_samples import (
    BASE_NS,
    Message,
    at,
    click,
    held,
    key,
    raw_move,
    screen,
    write_mcap,
)

SAMPLES = SHARED / "recordings" / "owa"
BASE_US = BASE_NS // 1000
READER = OWAMcapReader()


def read(folder: Path, *messages: Message, keep_text: bool = False) -> InputEvents:
    log = write_mcap(folder / "a.mcap", messages)
    files = LogFiles(video=folder / "a.mkv", log=log)
    return READER.read(files, ReadOptions(keep_text=keep_text))


def described(events: InputEvents) -> list[tuple[float, str, str, str | None, list[float]]]:
    """Return (milliseconds, device, kind, name, value) of each event."""
    return [
        (
            (int(events.timestamp_us[i]) - BASE_US) / 1000,
            DEVICES[events.device[i]],
            KINDS[events.kind[i]],
            events.codes[events.code[i]] if events.code[i] >= 0 else None,
            events.value[i].tolist(),
        )
        for i in range(len(events))
    ]


class TestEvents:
    def test_keys_have_the_names_of_the_log_and_the_codes_of_w3c(self, tmp_path) -> None:
        events = read(tmp_path, key(1, 87), key(2, 16), key(3, 87, "release"))
        assert described(events) == [
            (1, "keyboard", "press", "87", [0, 0]),
            (2, "keyboard", "press", "16", [0, 0]),
            (3, "keyboard", "release", "87", [0, 0]),
        ]
        assert dict(zip(events.codes, events.w3c_codes or (), strict=True)) == {
            "16": "",
            "87": "KeyW",
        }
        assert events.raw_line(0) == b'{"event_type": "press", "vk": 87}'

    def test_without_raw_moves_the_mouse_has_positions_in_pixels(self, tmp_path) -> None:
        scroll = {"event_type": "scroll", "x": 1, "y": 2, "dx": 0, "dy": -1}
        events = read(
            tmp_path,
            at(1, 10, 20),
            click(2, "left", pressed=True),
            click(3, "left", pressed=False),
            ("mouse", 4, scroll),
        )
        assert described(events) == [
            (1, "mouse", "position", None, [10, 20]),
            (2, "mouse", "press", "left", [0, 0]),
            (3, "mouse", "release", "left", [0, 0]),
            (4, "mouse", "scroll", None, [0, -1]),
        ]
        assert events.mouse_unit == "pixels"

    def test_raw_moves_count_and_positions_stay_and_clicks_come_once(self, tmp_path) -> None:
        events = read(
            tmp_path,
            at(1, 10, 20),
            raw_move(1, 3, -4),
            raw_move(2, 0, 0, button_flags=1),
            click(2, "left", pressed=True),
            raw_move(3, 5, 0, button_flags=2),
            click(3, "left", pressed=False),
        )
        assert [entry[2:] for entry in described(events)] == [
            ("position", None, [10, 20]),
            ("move", None, [3, -4]),
            ("other", None, [0, 0]),
            ("press", "left", [0, 0]),
            ("move", None, [5, 0]),
            ("release", "left", [0, 0]),
        ]
        assert events.mouse_unit == "counts"

    def test_where_there_are_raw_messages_only_they_say_it_all(self, tmp_path) -> None:
        events = read(
            tmp_path,
            raw_move(1, 3, 4, button_flags=0x1 | 0x20),
            raw_move(2, 0, 0, button_flags=0x400, button_data=0xFF88),
            raw_move(3, 0, 0, button_flags=0x800, button_data=120),
            raw_move(4, 1, 0, button_flags=0x100),
            raw_move(5, 0, 0, button_flags=None),
        )
        assert [entry[2:] for entry in described(events)] == [
            ("move", None, [3, 4]),
            ("press", "left", [0, 0]),
            ("release", "middle", [0, 0]),
            ("scroll", None, [0, -1]),
            ("scroll", None, [1, 0]),
            ("move", None, [1, 0]),
            ("press", "x2", [0, 0]),
            ("move", None, [0, 0]),
        ]
        assert [bool(events.raw_line(i)) for i in range(3)] == [True, False, False]

    def test_absolute_raw_messages_are_positions(self, tmp_path) -> None:
        events = read(tmp_path, raw_move(1, 30000, 65535, us_flags=1))
        assert [entry[2:] for entry in described(events)] == [("position", None, [30000, 65535])]
        assert events.mouse_unit == "1/65536 of the screen"

    def test_absolute_raw_messages_are_kept_apart_from_positions_in_pixels(self, tmp_path) -> None:
        events = read(tmp_path, raw_move(1, 30000, 65535, us_flags=1), at(2, 5, 6))
        assert [entry[2:] for entry in described(events)] == [
            ("other", None, [0, 0]),
            ("position", None, [5, 6]),
        ]
        assert events.mouse_unit == "pixels"

    def test_nanoseconds_are_rounded_down_and_the_own_time_of_a_message_wins(
        self, tmp_path
    ) -> None:
        stamp = BASE_NS + 5_000_999
        far = {"timestamp": 123_456_789}  # of some other clock
        events = read(tmp_path, key(7, 1 + 64, timestamp=stamp), key(8, 66, **far))
        assert events.timestamp_us.tolist() == [BASE_US + 5000, BASE_US + 8000]

    def test_snapshots_correct_and_stay(self, tmp_path) -> None:
        messages = [held(1000, 87, 1), held(2000, 87), key(2500, 87, "release"), held(3000)]
        events = read(tmp_path, *messages)
        assert described(events) == [
            (1000, "keyboard", "other", None, [0, 0]),
            (1000, "keyboard", "state", "87", [1, 0]),
            (2000, "keyboard", "other", None, [0, 0]),
            (2500, "keyboard", "release", "87", [0, 0]),
            (3000, "keyboard", "other", None, [0, 0]),
        ]
        frame_us = BASE_US + 1_000_000 * np.arange(4) + 500_000
        alignment = align(
            frame_us, events.timestamp_us, policy="following", window_us=None, latency_us=0
        )
        assert build(frame_us, events, alignment).keys[:, 0].tolist() == [0, 1, 0, 0]

    def test_mouse_snapshots_know_the_buttons(self, tmp_path) -> None:
        shot = {"x": 3, "y": 4, "buttons": ["left"]}
        events = read(tmp_path, ("mouse/state", 100, shot))
        assert [entry[2:] for entry in described(events)] == [
            ("other", None, [0, 0]),
            ("state", "left", [1, 0]),
        ]

    def test_snapshots_have_shift_twice_and_events_once(self, tmp_path) -> None:
        messages = [key(900, 160), held(1000, 16, 160), key(1500, 160, "release"), held(2000)]
        assert [entry[2:4] for entry in described(read(tmp_path, *messages))] == [
            ("press", "160"),
            ("other", None),
            ("release", "160"),
            ("other", None),
        ]

    def test_snapshots_do_not_know_the_side_buttons(self, tmp_path) -> None:
        shot = ("mouse/state", 1000, {"x": 3, "y": 4, "buttons": ["left"]})
        messages = [click(500, "x1", pressed=True), shot, click(1500, "x1", pressed=False)]
        assert [entry[2:4] for entry in described(read(tmp_path, *messages))] == [
            ("press", "x1"),
            ("other", None),
            ("state", "left"),
            ("release", "x1"),
        ]

    def test_titles_of_windows_are_left_out_unless_asked_for(self, tmp_path) -> None:
        window = {"title": "Letter to Mrs X", "rect": [0, 1, 2, 3], "hWnd": 7}
        for keep_text in (False, True):
            bad = {"title": "Letter to Mrs Y", "rect": "x"}
            messages = (key(0, 65), ("window", 1, window), ("window", 2, bad))
            events = read(tmp_path, *messages, keep_text=keep_text)
            said = events.raw.tobytes() + events.rejected.raw.tobytes()
            assert (b"Mrs X" in said) is keep_text
            assert (b"Mrs Y" in said) is keep_text
            assert b"[0" in said


BAD = {
    "broken JSON": (("keyboard", 1, b'{"event_type":"pr'), "not JSON: Unterminated string"),
    "not UTF-8": (("keyboard", 1, b'{"a":"\xff"}'), "not UTF-8 at byte 6"),
    "nested": (("mouse", 1, b"[" * 100_000), "nested too deep"),
    "no object": (("keyboard", 1, b"[1]"), "is JSON list, not an object"),
    "unknown type": (key(1, 65, "tap"), '"event_type" is str, none of press, release'),
    "no type": (("keyboard", 1, {"vk": 65}), '"event_type" is missing'),
    "vk text": (("keyboard", 1, {"event_type": "press", "vk": "65"}), '"vk" is str, not an int'),
    "vk true": (("keyboard", 1, {"event_type": "press", "vk": True}), '"vk" is True'),
    "vk 256": (key(1, 256), '"vk" is not from 1 to 255'),
    "vk negative": (key(1, -1), '"vk" is not from 1 to 255'),
    "x huge": (at(1, 10**30, 0), '"x" is 1000000000'),
    "x infinite": (("mouse", 1, b'{"event_type":"move","x":1e999,"y":0}'), '"x" is inf'),
    "y missing": (("mouse", 1, {"event_type": "move", "x": 1}), '"y" is missing'),
    "pressed 1": (("mouse", 1, {"event_type": "click", "button": "left", "pressed": 1}), "pressed"),
    "no button": (("mouse", 1, {"event_type": "click", "pressed": True}), '"button" is None'),
    "a long button": (click(1, "x" * 101, pressed=True), '"button" has 101 bytes'),
    "scroll text": (("mouse", 1, {"event_type": "scroll", "dy": "1"}), '"dy" is str'),
    "held a number": (("keyboard/state", 1, {"buttons": 5}), '"buttons" is 5, not a list of int'),
    "held 300": (held(1, 65, 300), "no virtual-key code"),
    "held text": (("mouse/state", 1, {"buttons": [1]}), "not a list of str"),
    "time text": (key(1, 65, timestamp="x"), '"timestamp" is str, not an int'),
    "flags": (raw_move(1, 1, 1, button_flags=-1), '"button_flags" is not from 0 to 65535'),
    "no wheel data": (raw_move(1, 1, 1, button_flags=0x400), '"button_data" is missing'),
    "another topic": (("gamepad", 1, {}), "the topic 'gamepad' is none of keyboard,"),
}


class TestRejected:
    @pytest.mark.parametrize(("message", "reason"), BAD.values(), ids=BAD)
    def test_what_is_no_event_is_kept_with_its_number_and_reason(
        self, tmp_path, message, reason
    ) -> None:
        events = read(tmp_path, key(0, 65), message, key(2, 65, "release"))
        assert [entry[2] for entry in described(events)] == ["press", "release"]
        assert events.rejected.line.tolist() == [2]
        assert reason in events.rejected.reason[0]
        assert events.codes == ("65",)
        assert bool(len(events.rejected.raw)) is (message[0] != "gamepad")

    def test_a_log_of_rubbish_is_an_error_and_an_empty_one_is_not(self, tmp_path) -> None:
        with pytest.raises(LogError, match="not JSON"):
            read(tmp_path, ("keyboard", 1, b"x"))
        assert len(read(tmp_path)) == 0

    def test_a_missing_log_is_an_error(self, tmp_path) -> None:
        with pytest.raises(MissingStream, match="no such file"):
            READER.read(LogFiles(video=tmp_path / "a.mkv", log=tmp_path / "a.mcap"))

    def test_a_log_that_breaks_off_is_read_as_far_as_it_goes(self, tmp_path) -> None:
        keys = [key(i, 65 + i % 20) for i in range(3000)]
        log = write_mcap(tmp_path / "a.mcap", keys, chunk_size=2000)
        log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
        events = READER.read(LogFiles(video=tmp_path / "a.mkv", log=log))
        assert 1000 < len(events) < 3000
        assert re.search("breaks off|without a footer", events.rejected.reason[-1])
        (mask,) = events.masks
        assert (mask.name, mask.start_us) == ("unknown", events.timestamp_us[-1])
        assert mask.stop_us > BASE_US + 3_000_000

    def test_the_time_of_a_damaged_chunk_is_unknown(self, tmp_path) -> None:
        keys = [key(i, 65 + i % 20) for i in range(300)]
        log = write_mcap(tmp_path / "a.mcap", [*keys, key(300, 0)], chunk_size=2000)
        data = bytearray(log.read_bytes())
        middle = data.index(b"\x28\xb5\x2f\xfd", len(data) // 2)  # a zstd frame
        data[middle : middle + 8] = b"\0" * 8
        log.write_bytes(data)
        events = READER.read(LogFiles(video=tmp_path / "a.mkv", log=log))
        assert events.rejected.total == 2  # key 0 is none, and hides no time
        gap = int(np.argmax(np.diff(events.timestamp_us)))
        assert [(mask.name, mask.start_us, mask.stop_us) for mask in events.masks] == [
            ("unknown", *events.timestamp_us[gap : gap + 2].tolist())
        ]


STEPS_MS = [17, 33, 50, 250, 20, 400, 33, 17, 600, 20]


def video(pts_ms: list[float], marks: list[tuple[int, int]] = ()) -> VideoTimes:
    return VideoTimes(
        pts=np.array(np.round(pts_ms), np.int64),
        time_base=Fraction(1, 1000),
        clock_marks=np.array(marks, np.int64).reshape(-1, 2),
    )


def frames(late: bool, steps: list[int] = STEPS_MS, generation: int = 3):
    """Return pts and stamps of frames whose pts 0 was 100 ms after BASE."""
    pts = np.cumsum([10.333, *steps]).tolist()
    stamps = [100 + p for p in ([*pts[1:], pts[-1] + 40] if late else pts)]
    screens = [screen(p, s, generation=generation) for p, s in zip(pts, stamps, strict=True)]
    return pts, screens


def anchor(folder: Path, messages: list[Message], times: VideoTimes):
    log = write_mcap(folder / "a.mcap", messages)
    return READER.anchor(LogFiles(video=folder / "a.mkv", log=log), times)


class TestClock:
    def test_a_video_with_times_beyond_64_bits_is_an_error(self, tmp_path) -> None:
        log = write_mcap(tmp_path / "a.mcap", [screen(0, 1)])
        far = replace(video([0.0]), pts=np.array([2**62]), time_base=Fraction(1))
        with pytest.raises(ClockError, match=r"a\.mkv: found times .* beyond 64 bits"):
            anchor_of(READER, LogFiles(video=tmp_path / "a.mkv", log=log), far)

    @pytest.mark.parametrize("generation", [1, 2, 3])
    def test_late_stamps_are_found_mended_and_reported(self, tmp_path, generation) -> None:
        pts, screens = frames(late=True, generation=generation)
        found = anchor(tmp_path, screens, video(pts))
        assert abs(found.pts_zero_us - (BASE_US + 100_000)) <= 1
        assert "one frame late" in found.warnings[0]
        assert found.report["source"] == "frame stamps"
        assert found.report["findings"] == list(found.warnings)

    def test_stamps_of_a_mended_recorder_are_taken_as_they_are(self, tmp_path) -> None:
        pts, screens = frames(late=False)
        found = anchor(tmp_path, screens, video(pts))
        assert abs(found.pts_zero_us - (BASE_US + 100_000)) <= 1
        assert found.warnings == ()

    def test_even_frames_are_taken_for_late_and_it_is_said(self, tmp_path) -> None:
        pts, screens = frames(late=True, steps=[20] * 90)
        found = anchor(tmp_path, screens, video(pts))
        assert abs(found.pts_zero_us - (BASE_US + 100_000)) <= 1
        assert "too even to tell" in found.warnings[0]

    def test_the_subtitle_clock_comes_first(self, tmp_path) -> None:
        pts, screens = frames(late=True)
        marks = [(s * 1_000_000, BASE_US + 90_000 + s * 1_000_000) for s in range(5)]
        found = anchor(tmp_path, screens, video(pts, marks))
        assert found.pts_zero_us == BASE_US + 90_000
        assert found.report["source"] == "subtitle track"
        assert len(found.warnings) == 1

    def test_one_mark_is_enough_and_stamps_that_disagree_are_told(self, tmp_path) -> None:
        pts, screens = frames(late=True)
        found = anchor(tmp_path, screens, video(pts, [(0, BASE_US)]))
        assert found.pts_zero_us == BASE_US
        (warning,) = [text for text in found.warnings if "+100.0 ms off" in text]
        assert "the subtitle clock, which is used" in warning
        assert "give --latency-ms" in warning
        assert found.report is None

    def test_stamps_of_another_video_are_no_clock(self, tmp_path) -> None:
        _, screens = frames(late=True)
        with pytest.raises(ClockError, match=r"11 frame stamps, none of a frame of a\.mkv"):
            anchor(tmp_path, screens, video([90_000.0, 90_100.0]))

    def test_the_first_frame_and_chance_make_no_clock_of_another_video(self, tmp_path) -> None:
        pts, screens = frames(late=True)
        other = [pts[0], *(time + 7 for time in pts[1:-2]), *pts[-2:]]
        with pytest.raises(ClockError, match=r"11 frame stamps, 3 of a frame of a\.mkv"):
            anchor(tmp_path, screens, video(other))
        marked = anchor(tmp_path, screens, video(other, [(0, BASE_US)]))
        assert marked.pts_zero_us == BASE_US

    def test_a_video_that_broke_off_keeps_its_clock(self, tmp_path) -> None:
        pts, screens = frames(late=True)
        found = anchor(tmp_path, screens, video(pts[:4]))
        assert abs(found.pts_zero_us - (BASE_US + 100_000)) <= 1

    def test_a_tail_frame_without_a_stamp_and_broken_stamps_do_no_harm(self, tmp_path) -> None:
        pts, screens = frames(late=True)
        screens += [("screen", 5000, b"x"), ("screen", 5001, {"utc_ns": True, "pts": 1})]
        found = anchor(tmp_path, [*screens, screen(60_000, 60_000)], video([*pts, 7780]))
        assert abs(found.pts_zero_us - (BASE_US + 100_000)) <= 1
        assert found.warnings[:2] == (
            "2 messages about frames cannot be read and are left out; the others place the video",
            "1 of 12 frame stamps are of no frame of the video and are left out; if these are"
            " many, see that the video is whole and belongs to this log",
        )

    def test_without_stamps_and_marks_there_is_no_clock(self, tmp_path) -> None:
        assert anchor(tmp_path, [key(1, 65)], video([0, 20])) is None


class TestFind:
    def test_it_finds_its_profile_only(self, tmp_path) -> None:
        log = write_mcap(tmp_path / "0.3.2.mcap", [key(1, 65)])
        files = READER.find(tmp_path / "0.3.2.mkv")
        assert files is not None
        assert files.log == log
        assert READER.find(tmp_path / "0.3.mkv") is None
        write_mcap(log, [key(1, 65)], profile="ros2")
        assert READER.find(tmp_path / "0.3.2.mkv") is None


@pytest.mark.needs_shared
class TestSamples:
    def test_the_real_recording_has_its_events_and_its_clock(self) -> None:
        index = index_video(SAMPLES / "0.3.2.mkv")
        files = READER.find(SAMPLES / "0.3.2.mkv")
        assert files is not None
        events = READER.read(files)
        counts = Counter((entry[1], entry[2]) for entry in described(events))
        assert counts["keyboard", "press"] + counts["keyboard", "release"] == 24
        assert counts["mouse", "position"] == 572
        assert counts["mouse", "press"] + counts["mouse", "release"] == 6
        assert events.rejected.total == 0
        found = READER.anchor(files, index.times())
        assert found is not None
        # The subtitle track's clock, read here by hand: container ms, Unix ns.
        marks = [(1010, 1750427724474558600), (2000, 1750427725474768800)]
        marks += [(3009, 1750427726474556400), (4009, 1750427727474484700)]
        for container_ms, wall_ns in [*marks, (5009, 1750427728474337100)]:
            frame_us = found.pts_zero_us + container_ms * 1000
            assert abs(frame_us - wall_ns / 1000) < 20_000
        assert found.report is not None
        assert found.report["source"] == "subtitle track"
        assert [text for text in found.warnings if "one frame late" in text]
        inputs = events.timestamp_us[events.kind != KINDS.index("other")]
        assert len(inputs) == 602
        # After the last stamp, which is one frame late, and after the last frame itself.
        assert np.count_nonzero(inputs > 1750427728628484) == 47
        last_us = found.pts_zero_us + int(index.times().pts_us()[-1])
        assert np.count_nonzero(inputs > last_us) == 107
        assert chord_names(events) == ("ControlLeft", "KeyC")

    def test_the_log_without_its_video_is_read_whole(self) -> None:
        files = LogFiles(video=SAMPLES / "example.mkv", log=SAMPLES / "example.mcap")
        counts = Counter((entry[1], entry[2]) for entry in described(READER.read(files)))
        assert counts["keyboard", "press"] + counts["keyboard", "release"] == 32
        mouse = ("position", "press", "release", "scroll")
        assert sum(counts["mouse", kind] for kind in mouse) == 209
        log = SAMPLES / "example.mcap"
        found = READER.anchor(LogFiles(video=SAMPLES / "example.mkv", log=log), video([0.0]))
        assert found is not None
