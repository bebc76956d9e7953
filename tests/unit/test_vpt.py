"""The reader of openai-vpt: line i is frame i's, and every quirk of the recorder is made good."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playmill.errors import ClockError, LogError, MissingStream
from playmill.inputs import DEVICES, KINDS, InputEvents, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.reader import anchor_of
from playmill.inputs.vpt import VptReader, clock_pairs, line_times_us
from playmill.inputs.vpt_line import key_code

READER = VptReader()
MILLI = 1_649_575_088_006
W, SHIFT = "key.keyboard.w", "key.keyboard.left.shift"


def tick(index: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a line; `keys`, `newKeys`, `chars`, and the mouse's fields go to their places."""
    mouse = {
        "x": 0.0,
        "y": 0.0,
        "dx": 0.0,
        "dy": 0.0,
        "dwheel": 0.0,
        "buttons": [],
        "newButtons": [],
    }
    keyboard: dict[str, Any] = {"keys": [], "newKeys": [], "chars": ""}
    line = {"isGuiOpen": False, "hotbar": 0, "tick": index, "milli": MILLI + 50 * index}
    for name, value in fields.items():
        place = next((part for part in (mouse, keyboard) if name in part), line)
        place[name] = value
    return {"mouse": mouse, "keyboard": keyboard, "inventory": [], "stats": {"jumps": 1}} | line


def files(folder: Path, *lines: Any) -> LogFiles:
    """Write a log; a line is an object, or bytes as they are."""
    log = folder / "a.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    log.write_bytes(b"".join(line + b"\n" for line in encoded))
    return LogFiles(video=folder / "a.mp4", log=log)


def read(folder: Path, *lines: Any, frames: int | None = None, **options: Any) -> InputEvents:
    """Read lines whose frames are at 1000, 2000, ... us; as many as lines unless told."""
    count = len(lines) if frames is None else frames
    line_us = 1000 * np.arange(1, count + 1, dtype=np.int64)
    return READER.read(files(folder, *lines), ReadOptions(line_us=line_us, **options))


def described(events: InputEvents, *, ticks: bool = False) -> list[tuple[Any, ...]]:
    """Return time, device, kind, code, x, y of each event; ticks only if asked for."""
    rows = [
        (int(t), DEVICES[d], KINDS[k], events.codes[c] if c >= 0 else None, *value)
        for t, d, k, c, value in zip(
            events.timestamp_us,
            events.device,
            events.kind,
            events.code,
            events.value.tolist(),
            strict=True,
        )
    ]
    return [row for row in rows if ticks or row[3] not in ("tick", "hotbar")]


def kinds(events: InputEvents, name: str) -> list[tuple[int, str]]:
    return [(row[0], row[2]) for row in described(events, ticks=True) if row[3] == name]


def masks(events: InputEvents, name: str) -> list[tuple[int, int]]:
    return [(mask.start_us, mask.stop_us) for mask in events.masks if mask.name == name]


class TestKeys:
    def test_presses_and_releases_are_where_the_held_keys_differ(self, tmp_path) -> None:
        events = read(
            tmp_path,
            tick(),
            tick(keys=[W], newKeys=[W]),
            tick(keys=[W, SHIFT]),
            tick(keys=[SHIFT]),
            tick(),
        )
        assert kinds(events, W) == [(2000, "press"), (4000, "release")]
        assert kinds(events, SHIFT) == [(3000, "press"), (5000, "release")]

    def test_a_tap_within_a_tick_is_a_press_and_a_release(self, tmp_path) -> None:
        events = read(tmp_path, tick(), tick(newKeys=[W]), tick())
        assert kinds(events, W) == [(2000, "press"), (2000, "release")]

    def test_a_held_key_that_is_new_was_let_go_in_between(self, tmp_path) -> None:
        events = read(tmp_path, tick(keys=[W], newKeys=[W]), tick(keys=[W], newKeys=[W]), tick())
        assert kinds(events, W) == [
            (1000, "press"),
            (2000, "release"),
            (2000, "press"),
            (3000, "release"),
        ]

    def test_what_is_held_on_the_first_line_and_not_new_is_a_snapshot(self, tmp_path) -> None:
        events = read(tmp_path, tick(keys=[W, SHIFT], newKeys=[SHIFT]), tick())
        assert described(events)[:2] == [
            (1000, "keyboard", "press", SHIFT, 0, 0),
            (1000, "keyboard", "state", W, 1, 0),
        ]
        assert kinds(events, W)[1:] == [(2000, "release")]

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_buttons_are_read_like_keys(self, tmp_path, count) -> None:
        events = read(tmp_path, tick(), tick(buttons=[count], newButtons=[count]), tick())
        assert described(events) == [
            (2000, "mouse", "press", str(count), 0, 0),
            (3000, "mouse", "release", str(count), 0, 0),
        ]

    def test_keys_have_their_w3c_codes(self, tmp_path) -> None:
        events = read(tmp_path, tick(keys=[W, SHIFT, "key.keyboard.unknown"], newButtons=[1]))
        assert dict(zip(events.codes, events.w3c_codes or (), strict=True)) == {
            W: "KeyW",
            SHIFT: "ShiftLeft",
            "key.keyboard.unknown": "",
            "1": "",
            "tick": "",
            "hotbar": "",
        }

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("key.keyboard.1", "Digit1"),
            ("key.keyboard.f3", "F3"),
            ("key.keyboard.space", "Space"),
            ("key.keyboard.right.control", "ControlRight"),
            ("key.keyboard.left.win", "MetaLeft"),
            ("key.keyboard.left.bracket", "BracketLeft"),
            ("key.keyboard.grave.accent", "Backquote"),
            ("key.keyboard.apostrophe", "Quote"),
            ("key.keyboard.page.up", "PageUp"),
            ("key.keyboard.caps.lock", "CapsLock"),
            ("key.keyboard.up", "ArrowUp"),
            ("key.keyboard.keypad.7", "Numpad7"),
            ("key.keyboard.keypad.add", "NumpadAdd"),
            ("key.keyboard.world.1", ""),
            ("key.mouse.left", ""),
            ("w", ""),
        ],
    )
    def test_names_of_keys_are_known(self, name, code) -> None:
        assert key_code(name) == code


class TestStuckAttack:
    def test_it_is_left_out_until_it_is_new_again(self, tmp_path) -> None:
        events = read(
            tmp_path,
            tick(buttons=[0], newButtons=[0]),
            tick(buttons=[0, 1], newButtons=[1]),
            tick(buttons=[0]),
            tick(buttons=[0], newButtons=[0]),
            tick(),
        )
        assert kinds(events, "0") == [(4000, "press"), (5000, "release")]
        assert kinds(events, "1") == [(2000, "press"), (3000, "release")]

    @pytest.mark.parametrize("first", [{"newButtons": [0, 1]}, {"newButtons": []}])
    def test_it_is_stuck_only_where_it_is_new_and_alone_on_the_first_line(
        self, tmp_path, first
    ) -> None:
        events = read(tmp_path, tick(buttons=[0], **first), tick())
        assert kinds(events, "0")[-1] == (2000, "release")

    def test_a_broken_first_line_says_nothing_of_it(self, tmp_path) -> None:
        events = read(tmp_path, b"{", tick(buttons=[0], newButtons=[0]), tick())
        assert kinds(events, "0") == [(2000, "press"), (3000, "release")]


class TestMouse:
    def test_moves_and_scrolls_are_as_logged(self, tmp_path) -> None:
        events = read(tmp_path, tick(dx=-22.0, dy=1.5), tick(dwheel=-1), tick())
        assert described(events) == [
            (1000, "mouse", "move", None, -22, 1.5),
            (2000, "mouse", "scroll", None, 0, -1),
        ]
        assert events.mouse_unit == "0.15 degrees"

    def test_the_cursor_has_a_position_only_while_a_gui_is_open(self, tmp_path) -> None:
        at = {"x": 640.0, "y": 360.0}
        events = read(tmp_path, tick(**at), tick(**at, isGuiOpen=True), tick(**at))
        assert described(events) == [(2000, "mouse", "position", None, 640, 360)]
        assert masks(events, "gui") == [(2000, 2001)]

    def test_a_change_of_slot_says_whether_a_key_made_it(self, tmp_path) -> None:
        two = "key.keyboard.2"
        events = read(
            tmp_path,
            tick(hotbar=5),
            tick(hotbar=5),
            tick(hotbar=1, keys=[two], newKeys=[two]),
            tick(hotbar=2),
            tick(hotbar=1, newKeys=[two]),
        )
        changes = [row for row in described(events, ticks=True) if row[3] == "hotbar"]
        assert [(row[0], *row[4:]) for row in changes] == [
            (1000, 5, 0),
            (3000, 1, 0),
            (4000, 2, 1),
            (5000, 1, 0),
        ]
        assert {row[1:3] for row in changes} == {("other", "other")}


NOTHING = {
    "null": b"null",
    "mouse null": json.dumps(tick(keys=[W]) | {"mouse": None}).encode(),
    "keyboard null": json.dumps(tick() | {"keyboard": None}).encode(),
    "no keyboard": b'{"mouse":{"buttons":[]}}',
}
BROKEN = {
    "torn": (json.dumps(tick()).encode()[:40], "not JSON"),
    "NUL": (b"\0" * 50, "not JSON"),
    "not UTF-8": (b'{"mouse":"\xff"}', "not UTF-8"),
    "deep": (b"[" * 50_000, "nested too deep"),
    "a list": (b"[]", "is JSON list, not an object"),
    "another format": (b'{"t":1}', 'has neither "mouse" nor "keyboard"'),
    "mouse a list": (tick() | {"mouse": []}, '"mouse" is list, not an object'),
    "keys a text": (tick(keys="w"), '"keys" is str, not a list'),
    "no keys": ({"keyboard": {}}, '"keys" is None, not a list'),
    "keys of numbers": (tick(keys=[1]), '"keys" holds 1, not str'),
    "a key with NUL": (tick(newKeys=["\0"]), '"newKeys" holds a NUL character'),
    "a long key": (tick(keys=["k" * 101]), '"keys" has 101 bytes, not 1 to 100'),
    "buttons of text": (tick(buttons=["0"]), '"buttons" holds str, not int'),
    "buttons true": (tick(buttons=[True]), '"buttons" holds True, not int'),
    "a huge button": (tick(buttons=[10**300]), '"buttons" has 200 bytes, not 1 to 100'),
    "dx a text": (tick(dx="1"), '"dx" is str, not a number'),
    "dx true": (tick(dx=True), '"dx" is True, not a number'),
    "dx huge": (tick(dx=1e30), '"dx" is beyond +-16777216'),
    "dx infinite": (b'{"mouse":{"buttons":[],"dx":1e999}}', '"dx" is beyond'),
    "dy NaN": (tick(dy=float("nan")), "not JSON: NaN"),
    "dwheel null": (tick(dwheel=None), '"dwheel" is None, not a number'),
    "isGuiOpen 1": (tick(isGuiOpen=1), '"isGuiOpen" is 1, not true or false'),
    "cursor a list": (tick(isGuiOpen=True, x=[]), '"x" is list, not a number'),
    "hotbar -1": (tick(hotbar=-1), '"hotbar" is -1, not an int from 0'),
    "hotbar a text": (tick(hotbar="1"), '"hotbar" is str, not an int from 0'),
}


class TestLinesThatSayNothing:
    @pytest.mark.parametrize("line", NOTHING.values(), ids=NOTHING)
    def test_a_null_line_is_a_tick_that_is_unknown(self, tmp_path, line) -> None:
        events = read(tmp_path, tick(keys=[W], newKeys=[W]), line, tick(keys=[W]), tick())
        assert events.rejected.total == 0
        assert kinds(events, W) == [(1000, "press"), (4000, "release")]
        assert len(kinds(events, "tick")) == 4
        assert masks(events, "unknown") == [(2000, 2001)]

    @pytest.mark.parametrize(("line", "reason"), BROKEN.values(), ids=BROKEN)
    def test_a_broken_line_keeps_its_place_and_is_counted(self, tmp_path, line, reason) -> None:
        events = read(tmp_path, tick(keys=[W], newKeys=[W]), line, line, tick(keys=[W]), tick())
        assert events.rejected.line.tolist() == [2, 3]
        assert reason in events.rejected.reason[0]
        assert kinds(events, W) == [(1000, "press"), (5000, "release")]
        assert [time for time, _ in kinds(events, "tick")] == [1000, 4000, 5000]
        assert masks(events, "unknown") == [(2000, 3001)]

    def test_what_changed_while_nothing_was_known_is_no_press(self, tmp_path) -> None:
        events = read(tmp_path, tick(keys=[W], newKeys=[W]), b"?", tick(keys=[SHIFT]), tick())
        assert kinds(events, W) == [(1000, "press"), (3000, "state")]
        assert kinds(events, SHIFT) == [(3000, "state"), (4000, "release")]

    def test_the_mouse_is_read_where_only_the_keyboard_says_nothing(self, tmp_path) -> None:
        events = read(tmp_path, tick(), tick(dx=2.0, isGuiOpen=True) | {"keyboard": None}, tick())
        assert (2000, "mouse", "move", None, 2, 0) in described(events)
        assert masks(events, "gui") == [(2000, 2001)]

    def test_frames_without_a_line_are_unknown(self, tmp_path) -> None:
        events = read(tmp_path, tick(), tick(), frames=5)
        assert masks(events, "unknown") == [(3000, 5001)]

    def test_blank_lines_are_no_lines(self, tmp_path) -> None:
        events = read(tmp_path, b"", tick(), b" \t\r", tick(keys=[W], newKeys=[W]), b"\r", frames=2)
        assert kinds(events, W) == [(2000, "press")]

    def test_a_name_too_many_rejects_its_line_whole(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("playmill.inputs.event_table.MAX_NAMES", 3)
        events = read(tmp_path, tick(keys=[W]), tick(keys=[W, SHIFT], dx=1.0), tick())
        assert events.rejected.reason == ('"keyboard" is one name more than 3',)
        assert [row[2] for row in described(events)] == ["state", "state"]


class TestTimes:
    def test_lines_beyond_the_frames_come_after_them_as_far_apart_as_logged(self, tmp_path) -> None:
        lines = [tick(), tick(1), tick(2), tick(2), tick(1), tick(milli="x"), tick(4)]
        times = [time for time, _ in kinds(read(tmp_path, *lines, frames=2), "tick")]
        assert np.diff(times).tolist() == [1000, 50_000, 1, 1, 50_000, 50_000]

    def test_a_leap_of_the_clock_is_not_followed_far(self, tmp_path) -> None:
        lines = [tick(), *(tick(milli=2**61 // 1000 * (number % 2)) for number in range(6))]
        times = [time for time, _ in kinds(read(tmp_path, *lines, frames=1), "tick")]
        assert times == sorted(set(times))
        assert times[-1] < 2**43

    def test_without_frames_a_log_has_its_own_times(self, tmp_path) -> None:
        events = READER.read(files(tmp_path, tick(3), tick(5)))
        assert [time for time, _ in kinds(events, "tick")] == [
            (MILLI + 150) * 1000,
            (MILLI + 250) * 1000,
        ]

    def test_a_line_whose_frame_is_before_all_time_is_rejected(self, tmp_path) -> None:
        options = ReadOptions(line_us=np.array([-1, 7], np.int64))
        events = READER.read(files(tmp_path, tick(), tick()), options)
        assert events.rejected.reason == ('"time of its frame" is negative',)
        assert [time for time, _ in kinds(events, "tick")] == [7]


def video(*pts: int, time_base: Fraction = Fraction(1, 10240)) -> VideoTimes:
    marks = np.zeros((0, 2), np.int64)
    return VideoTimes(pts=np.array(pts, np.int64), time_base=time_base, clock_marks=marks)


class TestAnchor:
    def test_the_first_line_is_the_first_frame(self, tmp_path) -> None:
        anchor = READER.anchor(files(tmp_path, tick(), tick(1)), video(1024, 1536))
        assert anchor is not None
        assert anchor.pts_zero_us == MILLI * 1000 - 100_000
        assert (anchor.clock, anchor.line_pts, anchor.warnings) == ("unix_us", (1024, 1536), ())

    @pytest.mark.parametrize("milli", [None, "1", -5, 1e30, float("-1"), True, [], 2**62])
    def test_a_first_line_without_a_time_is_made_good_by_a_later_one(self, tmp_path, milli) -> None:
        anchor = READER.anchor(files(tmp_path, tick(milli=milli), tick(1)), video(0, 512))
        assert anchor is not None
        assert anchor.pts_zero_us == MILLI * 1000
        assert anchor.warnings == ("the first line does not say when it was; a later one did",)

    def test_a_log_without_any_time_counts_from_the_video(self, tmp_path) -> None:
        anchor = READER.anchor(files(tmp_path, b"{}", b"null"), video(0, 512))
        assert anchor is not None
        assert (anchor.pts_zero_us, anchor.clock) == (0, "log_us")
        assert anchor.warnings == ("no line says when it was: times count from pts 0 of the video",)

    @pytest.mark.parametrize(
        ("num_lines", "warning"),
        [
            (1, "1 line for 2 frames: what was held is unknown for 1 frame at the end"),
            (3, "3 lines for 2 frames: at the end 1 line belongs to no frame"),
        ],
    )
    def test_lines_and_frames_of_other_numbers_are_told(self, tmp_path, num_lines, warning) -> None:
        lines = [tick(index) for index in range(num_lines)]
        anchor = READER.anchor(files(tmp_path, *lines), video(0, 512))
        assert anchor is not None
        assert anchor.warnings == (warning,)

    @pytest.mark.parametrize(("version", "scale"), [("5.7", 0.5), ("6.9", 2.0)])
    def test_the_recorder_that_counted_otherwise_is_told(self, tmp_path, version, scale) -> None:
        folder = tmp_path / version
        folder.mkdir()
        anchor = READER.anchor(files(folder, tick()), video(0))
        assert anchor is not None
        assert anchor.warnings == (
            f"recorder {version}: multiply moves by {scale} where a GUI is open; they are as"
            " logged",
        )

    def test_times_beyond_64_bits_are_an_error(self, tmp_path) -> None:
        made = files(tmp_path, tick(milli=0))
        for far in (
            video(2**62, time_base=Fraction(1, 10**6)),
            video(2**62, time_base=Fraction(1)),
        ):
            with pytest.raises(ClockError, match=r"a\.mp4: found times .* beyond 64 bits"):
                anchor_of(READER, made, far)

    def test_lost_ticks_are_a_step_of_the_clock(self, tmp_path) -> None:
        lines = [tick(index + 40 * (index >= 100)) for index in range(200)]
        anchor = READER.anchor(files(tmp_path, *lines), video(*range(0, 512 * 200, 512)))
        assert anchor is not None
        assert anchor.report is not None
        assert (anchor.report["source"], anchor.report["samples"]) == ("milli", 200)
        assert anchor.report["steps"] == [{"at_us": 5_000_000, "by_us": 2_000_000}]

    def test_the_pairs_of_the_two_clocks_are_those_of_lines_with_a_frame(self, tmp_path) -> None:
        log = files(tmp_path, tick(), b"?", tick(2), tick(3)).log
        pts_us, line_us = clock_pairs(line_times_us(log), video(0, 512, 1024).pts_us())
        assert pts_us.tolist() == [0, 100_000]
        assert line_us.tolist() == [MILLI * 1000, MILLI * 1000 + 100_000]


class TestText:
    def test_typed_text_is_nowhere_unless_asked_for(self, tmp_path) -> None:
        secret = [tick(chars="hunter2"), tick(chars="hunter2", dx="x"), b'{"chars":"hunter2']
        events = read(tmp_path, *secret)
        assert b"hunter2" not in events.raw.tobytes() + events.rejected.raw.tobytes()
        kept = read(tmp_path, *secret, keep_text=True)
        assert kept.raw.tobytes().count(b"hunter2") == 1
        assert kept.rejected.raw.tobytes().count(b"hunter2") == 2

    def test_text_in_a_keyboard_that_is_none_is_dropped(self, tmp_path) -> None:
        events = read(tmp_path, tick(), tick() | {"keyboard": "hunter2"})
        assert events.rejected.total == 1
        assert b"hunter2" not in events.rejected.raw.tobytes()

    def test_the_first_event_of_a_line_carries_it(self, tmp_path) -> None:
        events = read(tmp_path, tick(7, keys=[W], dx=1.0))
        expected = tick(7, keys=[W], dx=1.0)
        del expected["inventory"], expected["stats"], expected["keyboard"]["chars"]
        assert json.loads(events.raw_line(0)) == expected
        assert {events.raw_line(place) for place in range(1, len(events))} == {b""}


class TestWholeLogs:
    def test_an_empty_log_has_no_events(self, tmp_path) -> None:
        events = read(tmp_path, frames=2)
        assert len(events) == 0
        assert masks(events, "unknown") == [(1000, 2001)]

    def test_a_byte_order_mark_is_no_part_of_the_first_line(self, tmp_path) -> None:
        line = b"\xef\xbb\xbf" + json.dumps(tick()).encode() + b"\r"
        events = read(tmp_path, line)
        assert (events.rejected.total, len(kinds(events, "tick"))) == (0, 1)
        assert READER.find(found_files(tmp_path, line).video) is not None

    def test_a_log_without_one_tick_is_an_error(self, tmp_path) -> None:
        with pytest.raises(LogError, match=r"a\.jsonl: line 1: found .* no event in the whole log"):
            read(tmp_path, b"what", b"[]")

    def test_a_missing_log_is_an_error(self, tmp_path) -> None:
        missing = LogFiles(video=tmp_path / "a.mp4", log=tmp_path / "a.jsonl")
        with pytest.raises(MissingStream, match="no such file"):
            READER.read(missing)
        with pytest.raises(MissingStream, match="no such file"):
            READER.anchor(missing, video(0))


def found_files(folder: Path, *lines: Any) -> LogFiles:
    found = files(folder, *lines)
    found.video.touch()
    return found


class TestFind:
    def test_a_log_and_its_options_beside_the_video_are_found(self, tmp_path) -> None:
        made = found_files(tmp_path, tick())
        assert READER.find(made.video) == made
        options = tmp_path / "a-options.json"
        options.write_text("{}")
        assert READER.find(made.video) == LogFiles(video=made.video, log=made.log, metadata=options)

    def test_a_first_line_that_says_nothing_does_not_hide_the_log(self, tmp_path) -> None:
        assert READER.find(found_files(tmp_path, b"null", b"{", tick()).video) is not None

    @pytest.mark.parametrize(
        "line",
        [
            b'{"t":1,"type":"key_down","key":"w"}',
            b'{"frame":0,"events":[]}',
            b"x",
            b"",
            b"[" * 9999,
        ],
        ids=["gameplay-session", "game-recorder", "text", "blank", "deep"],
    )
    def test_a_log_of_another_format_is_left_alone(self, tmp_path, line) -> None:
        assert READER.find(found_files(tmp_path, line).video) is None

    def test_a_log_beside_another_kind_of_video_is_left_alone(self, tmp_path) -> None:
        found_files(tmp_path, tick())
        assert READER.find(tmp_path / "a.mkv") is None
        assert READER.find(tmp_path / "b.mp4") is None


def test_lines_that_are_written_again_together_stay_apart(tmp_path: Path) -> None:
    mark = ["a", "\0", "b"]  # what stands between lines while they are written
    lines = [tick(0), tick(1, odd=mark), {"mouse": None, "more": mark}, 7, None, tick(2, odd="\0")]
    events = read(tmp_path, *lines)
    ticks = [i for i in range(len(events)) if events.raw_line(i)]
    kept = [json.loads(events.raw_line(i)) for i in ticks]
    assert [line and line.get("odd", line.get("more")) for line in kept] == [
        None, mark, mark, None, "\0",
    ]  # fmt: skip
    assert all("inventory" not in line for line in kept if line)
    assert events.rejected.line.tolist() == [4]


def test_true_is_no_button_and_no_key_even_after_1(tmp_path: Path) -> None:
    lines = [tick(0, buttons=[1]), tick(1, buttons=[True]), tick(2, buttons=[1.0])]
    lines += [tick(3, keys=[W]), tick(4, keys=[True]), tick(5, keys=[[W]]), tick(6, keys=[W])]
    assert read(tmp_path, *lines).rejected.line.tolist() == [2, 3, 5, 6]
