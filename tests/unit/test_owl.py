"""The reader of OWL Control: both quotings, exact times, snapshots, gamepads, focus."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from playmill.errors import ClockError, LogError, MissingStream
from playmill.inputs import DEVICES, KINDS, InputEvents, LogFiles, VideoTimes
from playmill.inputs.owl import OWLControlReader
from playmill.inputs.reader import anchor_of

READER = OWLControlReader()
T = 1767633347


def raw(event_type: str, args: object, at: str = f"{T}.5") -> str:
    """Return a line as the recorder writes it."""
    return f'{at},{event_type},"{json.dumps(args)}"'


def doubled(event_type: str, args: object, at: str = f"{T}.5") -> str:
    """Return a line as the documentation has it."""
    quoted = json.dumps(args).replace('"', '""')
    return f'{at},{event_type},"{quoted}"'


def write(folder: Path, *lines: str, header: bool = True) -> LogFiles:
    text = ["timestamp,event_type,event_args"] * header + list(lines)
    (folder / "inputs.csv").write_text("\n".join(text) + "\n", encoding="utf-8")
    return LogFiles(video=folder / "recording.mp4", log=folder / "inputs.csv")


def read(folder: Path, *lines: str) -> InputEvents:
    return READER.read(write(folder, *lines))


def described(events: InputEvents) -> list[tuple[str, str, str | None, list[float]]]:
    return [
        (
            DEVICES[events.device[i]],
            KINDS[events.kind[i]],
            events.codes[events.code[i]] if events.code[i] >= 0 else None,
            events.value[i].tolist(),
        )
        for i in range(len(events))
    ]


@pytest.mark.parametrize("quoted", [raw, doubled], ids=["raw quotes", "doubled quotes"])
class TestBothQuotings:
    def test_every_type_becomes_its_kind_of_event(self, tmp_path, quoted) -> None:
        pad = "XInput:0"
        events = read(
            tmp_path,
            quoted("KEYBOARD", [87, True]),
            quoted("KEYBOARD", [87, False]),
            quoted("MOUSE_MOVE", [-3, 4]),
            quoted("MOUSE_BUTTON", [1, True]),
            quoted("SCROLL", [-120]),
            quoted("GAMEPAD_BUTTON", [4, True, pad]),
            quoted("GAMEPAD_BUTTON", [4, False]),
            quoted("GAMEPAD_BUTTON_VALUE", [9, 0.75, pad]),
            quoted("GAMEPAD_AXIS", [1, -0.5, "WGI:2"]),
            quoted("VIDEO_START", []),
            quoted("UNKNOWN", {"a": ""}),
        )
        assert events.rejected.total == 0
        assert described(events) == [
            ("keyboard", "press", "87", [0, 0]),
            ("keyboard", "release", "87", [0, 0]),
            ("mouse", "move", None, [-3, 4]),
            ("mouse", "press", "1", [0, 0]),
            ("mouse", "scroll", None, [0, -1]),
            ("gamepad", "press", "XInput:0:button:4", [0, 0]),
            ("gamepad", "release", "button:4", [0, 0]),
            ("gamepad", "axis", "XInput:0:button:9", [0.75, 0]),
            ("gamepad", "axis", "WGI:2:axis:1", [-0.5, 0]),
            ("other", "other", None, [0, 0]),
            ("other", "other", None, [0, 0]),
        ]
        codes = dict(zip(events.codes, events.w3c_codes or (), strict=True))
        assert codes["87"] == "KeyW"
        assert events.raw_line(0).decode() == quoted("KEYBOARD", [87, True])

    def test_snapshots_tell_what_is_held(self, tmp_path, quoted) -> None:
        pads = {"XInput:0": {"digital": [1], "analog": {"9": 0.75}, "axis": {"1": -0.5}}}
        inputs = {"keyboard": [116, 65], "mouse": [1], "gamepads": pads}
        events = read(
            tmp_path,
            quoted("START", {"inputs": inputs}, f"{T}.1"),
            quoted("KEYBOARD", [116, False], f"{T}.2"),
            quoted("END", {"inputs": {"keyboard": [70], "mouse": [1]}}, f"{T}.9"),
        )
        assert described(events) == [
            ("other", "other", None, [0, 0]),
            ("gamepad", "axis", "XInput:0:button:9", [0.75, 0]),
            ("gamepad", "axis", "XInput:0:axis:1", [-0.5, 0]),
            *[entry for entry in described(events) if entry[1] == "state"][:4],
            ("keyboard", "release", "116", [0, 0]),
            ("other", "other", None, [0, 0]),
            *[entry for entry in described(events) if entry[1] == "state"][4:],
        ]
        state = [entry[2:] for entry in described(events) if entry[1] == "state"]
        assert sorted(state[:4]) == [
            ("1", [1, 0]),
            ("116", [1, 0]),
            ("65", [1, 0]),
            ("XInput:0:button:1", [1, 0]),
        ]
        assert sorted(state[4:]) == [("65", [0, 0]), ("70", [1, 0])]

    def test_old_snapshots_have_one_gamepad_without_a_name(self, tmp_path, quoted) -> None:
        inputs = {"keyboard": [], "mouse": [], "gamepad_digital": [3], "gamepad_analog": {"7": 1}}
        events = read(tmp_path, quoted("START", {"inputs": inputs}))
        assert described(events)[1:] == [
            ("gamepad", "axis", "button:7", [1, 0]),
            ("gamepad", "state", "button:3", [1, 0]),
        ]


def test_times_are_exact_to_the_microsecond(tmp_path) -> None:
    times = [f"{T}.5859811", f"{T}.708028", f"{T}.7088337", f"{T}", f"{T}.999999999"]
    events = read(tmp_path, *(raw("KEYBOARD", [65, True], at) for at in times))
    base = T * 1_000_000
    assert (events.timestamp_us - base).tolist() == [0, 585981, 708028, 708833, 999999]


def test_without_focus_events_stay_and_the_mask_says_it(tmp_path) -> None:
    events = read(
        tmp_path,
        raw("UNFOCUS", [], f"{T}.2"),
        raw("KEYBOARD", [65, True], f"{T}.25"),
        raw("FOCUS", [], f"{T}.3"),
        raw("UNFOCUS", [], f"{T}.7"),
        raw("UNFOCUS", [], f"{T}.8"),
    )
    assert len(events) == 5
    spans = [(m.name, m.start_us - T * 10**6, m.stop_us - T * 10**6) for m in events.masks]
    assert spans == [("unfocused", 200_000, 300_000), ("unfocused", 700_000, 800_001)]


BAD = {
    "two fields": (f"{T}.5,KEYBOARD", "has 2 fields"),
    "no time": ('x,KEYBOARD,"[65,true]"', "'x', not a decimal number"),
    "negative": (raw("KEYBOARD", [65, True], "-5.5"), '"timestamp" is negative'),
    "huge": (raw("KEYBOARD", [65, True], "9" * 20), "2**63 us or more"),
    "NaN": (raw("KEYBOARD", [65, True], "nan"), "not a decimal number"),
    "another type": (raw("TYPED", "secret"), "'TYPED', none of START"),
    "half a line": (f'{T}.5,MOUSE_MOVE,"[0,', "not JSON"),
    "NUL": ("\0" * 30, "has 1 fields"),
    "deep": (f"{T},KEYBOARD," + "[" * 100_000, "nested too deep"),
    "key text": (raw("KEYBOARD", ["W", True]), "str is no number of a key"),
    "key true": (raw("KEYBOARD", [True, True]), "True is no number of a key"),
    "key 65536": (raw("KEYBOARD", [65536, True]), "65536 is no number"),
    "down 1": (raw("KEYBOARD", [65, 1]), '"down" is 1, not true or false'),
    "too short": (raw("KEYBOARD", [65]), "not a list of 2"),
    "an object": (raw("MOUSE_MOVE", {"dx": 1}), "is dict, not a list of 2"),
    "too far": (raw("MOUSE_MOVE", [2**25, 0]), '"dx" is beyond'),
    "infinite": (f'{T},GAMEPAD_AXIS,"[1,1e999]"', '"value" is beyond'),
    "pad 0": (raw("GAMEPAD_AXIS", [1, 0.5, 0]), "0 is no name of a gamepad"),
    "no inputs": (raw("START", []), 'no object "inputs"'),
    "held a number": (raw("END", {"inputs": {"keyboard": 5}}), '"keyboard" is 5, not a list'),
    "analog": (raw("END", {"inputs": {"gamepads": {"a": {"analog": [1]}}}}), '"analog" is list'),
    "axis name": (
        raw("END", {"inputs": {"gamepads": {"a": {"axis": {"x": 1}}}}}),
        "'x' is no number of a button",
    ),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD)
def test_a_line_that_is_no_event_is_kept_with_its_number_and_reason(tmp_path, line, reason) -> None:
    events = read(tmp_path, raw("KEYBOARD", [65, True]), "", line)
    assert len(events) == 1
    assert events.rejected.line.tolist() == [4]
    assert reason in events.rejected.reason[0]


def test_the_edges_of_a_file_do_not_matter(tmp_path) -> None:
    files = write(tmp_path, raw("KEYBOARD", [65, True]), raw("KEYBOARD", [65, False]))
    text = files.log.read_bytes()
    for content in (b"\xef\xbb\xbf" + text, text.replace(b"\n", b"\r\n"), text[:-1]):
        files.log.write_bytes(content)
        assert READER.find(files.video) == files
        events = READER.read(files)
        assert (len(events), events.rejected.total) == (2, 0)


def test_rubbish_is_an_error_and_no_file_too(tmp_path) -> None:
    with pytest.raises(LogError, match="has 1 fields"):
        read(tmp_path, "rubbish")
    with pytest.raises(MissingStream, match="no such file"):
        READER.read(LogFiles(video=tmp_path / "v", log=tmp_path / "none.csv"))


def times(seconds: float = 2.0) -> VideoTimes:
    return VideoTimes(
        pts=np.arange(round(seconds * 60)),
        time_base=Fraction(1, 60),
        clock_marks=np.zeros((0, 2), np.int64),
    )


class TestClock:
    def test_the_video_begins_at_video_start_and_never_at_start(self, tmp_path) -> None:
        files = write(
            tmp_path,
            raw("START", {"inputs": {}}, f"{T}.5859811"),
            raw("HOOK_START", [], f"{T}.6"),
            raw("VIDEO_START", [], f"{T}.708028"),
            raw("VIDEO_END", [], f"{T + 2}.708028"),
        )
        found = READER.anchor(files, times())
        assert found is not None
        assert (found.pts_zero_us, found.clock) == (T * 1_000_000 + 708_028, "unix_us")
        assert found.warnings == ()

    def test_a_video_with_times_beyond_64_bits_is_an_error(self, tmp_path) -> None:
        files = write(tmp_path, raw("VIDEO_START", []), raw("VIDEO_END", [], f"{T + 2}.5"))
        far = replace(times(), pts=np.array([2**62]), time_base=Fraction(1))
        with pytest.raises(ClockError, match=r"recording\.mp4: found times .* beyond 64 bits"):
            anchor_of(READER, files, far)

    def test_hook_start_serves_with_a_warning(self, tmp_path) -> None:
        files = write(tmp_path, raw("START", {"inputs": {}}), raw("HOOK_START", [], f"{T}.6"))
        found = READER.anchor(files, times())
        assert found is not None
        assert found.pts_zero_us == T * 1_000_000 + 600_000
        assert "put at HOOK_START" in found.warnings[0]

    def test_start_alone_is_no_clock(self, tmp_path) -> None:
        with pytest.raises(ClockError, match="no line VIDEO_START and none HOOK_START"):
            READER.anchor(write(tmp_path, raw("START", {"inputs": {}})), times())

    def test_what_the_recorder_says_against_it_is_a_warning(self, tmp_path) -> None:
        # Given a recording that is marked as invalid after it was found.
        made = write(tmp_path, raw("VIDEO_START", []), raw("VIDEO_START", []))
        before = READER.find(made.video)
        (tmp_path / ".invalid").write_text("Video too short\nNo inputs\n")
        (tmp_path / ".server_invalid").write_bytes(b"")
        # Then it is another recording, for these are files of it.
        files = READER.find(made.video)
        assert before is not None
        assert files is not None
        assert (before.sides, len(files.sides)) == ((), 2)
        # And it is told.
        found = READER.anchor(files, times())
        assert found is not None
        assert found.warnings == (
            ".invalid lies beside it: Video too short No inputs",
            ".server_invalid lies beside it: without a reason",
            "the log says 2 times that the video began: the first",
        )

    def test_a_video_of_another_length_is_told(self, tmp_path) -> None:
        files = write(tmp_path, raw("VIDEO_START", []), raw("VIDEO_END", [], f"{T + 60}"))
        found = READER.anchor(files, times(30))
        assert found is not None
        assert "the video is 59.500 s long, and it is 29.983 s" in found.warnings[0]


def test_without_focus_at_the_end_of_all_times_the_mask_ends_there(tmp_path) -> None:
    at = "9223372036854.775807"
    events = read(tmp_path, raw("KEYBOARD", [65, True]), raw("UNFOCUS", [], at))
    (mask,) = events.masks
    assert mask.start_us == mask.stop_us == 2**63 - 1


class TestFind:
    def test_it_finds_its_own_log_and_no_other(self, tmp_path) -> None:
        files = write(tmp_path, raw("START", {"inputs": {}}))
        assert READER.find(tmp_path / "recording.mp4") == files
        assert READER.find(tmp_path / "other.mp4") is None
        (tmp_path / "metadata.json").write_text("{}")
        found = READER.find(tmp_path / "recording.mp4")
        assert found is not None
        assert found.metadata == tmp_path / "metadata.json"
        for text in ("", "t,key\n1,2\n", "timestamp,x,y\n1,2,3\n", "\0\0\0"):
            files.log.write_text(text)
            assert READER.find(tmp_path / "recording.mp4") is None
        files.log.unlink()
        assert READER.find(tmp_path / "recording.mp4") is None

    def test_a_log_without_its_header_is_found_by_its_first_event(self, tmp_path) -> None:
        write(tmp_path, raw("START", {"inputs": {}}), header=False)
        assert READER.find(tmp_path / "recording.mp4") is not None


def test_the_same_arguments_mean_what_their_type_says(tmp_path: Path) -> None:
    lines = [
        raw(kind, args, at=f"{T}.{number}")
        for number in (1, 2)
        for kind, args in (
            ("MOUSE_MOVE", [1, 2]),
            ("KEYBOARD", [1, True]),
            ("MOUSE_BUTTON", [1, True]),
        )
    ]
    events = read(tmp_path, *lines, raw("KEYBOARD", [1, 1]))
    assert described(events)[:3] == described(events)[3:]
    assert [kind for _, kind, _, _ in described(events)] == ["move", "press", "press"] * 2
    assert [events.raw_line(i).decode() for i in range(6)] == lines
    assert events.rejected.total == 1
