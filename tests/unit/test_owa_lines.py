"""The JSON lines of Open World Agents' first recorder, as its published example has them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from playmill.errors import LogError
from playmill.inputs import LogFiles, ReadOptions, VideoTimes
from playmill.inputs.events import DEVICES, KINDS
from playmill.inputs.owa_lines import OwaLinesReader

READER = OwaLinesReader()
T0 = 1_740_134_045_272_214


def line(at_us: int, data: str, source: str = "control_publisher") -> str:
    """Return a line as the recorder wrote it."""
    event = {"timestamp_ns": (T0 + at_us) * 1000 + 800, "event_src": source, "event_data": data}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


EXAMPLE = [
    line(0, '["mouse.click",1446,1107,left,true]'),
    line(10, '["mouse.click",1446,1107,left,false]'),
    line(20, '{"title":"a letter","rect":[1,2,3,4],"hWnd":5}', "window_publisher"),
    line(30, '["mouse.move",-3,1107]'),
    line(40, '["mouse.scroll",1445,1107,0,-1]'),
    line(50, '["keyboard.press",81]'),
    line(60, '["keyboard.release",81]'),
]


def write(folder: Path, lines: list[str]) -> LogFiles:
    (folder / "event.jsonl").write_text("\n".join(lines), encoding="utf-8")
    files = READER.find(folder / "game.mkv")
    return files or LogFiles(video=folder / "game.mkv", log=folder / "event.jsonl")


def test_every_event_of_the_example_is_read(tmp_path: Path) -> None:
    events = READER.read(write(tmp_path, EXAMPLE))
    said = [
        (
            DEVICES[events.device[i]],
            KINDS[events.kind[i]],
            events.codes[events.code[i]] if events.code[i] >= 0 else "",
            *events.value[i].tolist(),
        )
        for i in range(len(events))
    ]
    assert said == [
        ("mouse", "press", "left", 0, 0),
        ("mouse", "release", "left", 0, 0),
        ("other", "other", "", 0, 0),
        ("mouse", "position", "", -3, 1107),
        ("mouse", "scroll", "", 0, -1),
        ("keyboard", "press", "81", 0, 0),
        ("keyboard", "release", "81", 0, 0),
    ]
    assert events.timestamp_us.tolist() == [T0 + 10 * i for i in range(7)]
    assert dict(zip(events.codes, events.w3c_codes or (), strict=True))["81"] == "KeyQ"
    assert events.mouse_unit == "pixels"
    assert events.rejected.total == 0


@pytest.mark.parametrize("name", ["event.jsonl", "game.jsonl"])
def test_the_log_is_found_by_its_lines(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n".join(EXAMPLE))
    files = READER.find(tmp_path / "game.mkv")
    assert files is not None
    assert files.log == tmp_path / name
    (tmp_path / name).write_text('{"timestamp_ns": 1}\n')
    assert READER.find(tmp_path / "game.mkv") is None


def test_titles_of_windows_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    files = write(tmp_path, [*EXAMPLE, line(70, "a letter", "something")])
    plain, kept = READER.read(files), READER.read(files, ReadOptions(keep_text=True))
    for events, has_text in ((plain, False), (kept, True)):
        assert (b"letter" in events.raw.tobytes()) == has_text
        assert (b"letter" in events.rejected.raw.tobytes()) == has_text
        assert (len(events), events.rejected.line.tolist()) == (7, [8])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("mouse.move,1,2", "is no list"),
        ('["mouse.move",1]', "is none of mouse.move"),
        ('["mouse.move",1,2,3]', "is none of mouse.move"),
        ('["mouse.wheel",1]', "is none of mouse.move"),
        ('["mouse.move",1.5,2]', "no whole number"),
        ('["mouse.move",1,99999999]', "is beyond"),
        ('["mouse.click",1,2,left,1]', "neither true nor false"),
        ('["mouse.click",1,2,,true]', "has 0 bytes"),
        ('["keyboard.press",256]', "no virtual-key code"),
        ("[]", "is none of mouse.move"),
    ],
)
def test_a_line_that_is_no_event_is_counted(tmp_path: Path, data: str, reason: str) -> None:
    events = READER.read(write(tmp_path, [*EXAMPLE, line(70, data)]))
    assert (len(events), events.rejected.line.tolist()) == (7, [8])
    assert reason in events.rejected.reason[0]


def test_rubbish_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="event_src"):
        READER.read(write(tmp_path, ["rubbish"]))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_pts_0_lies_where_the_subtitle_track_says(tmp_path: Path, count: int) -> None:
    at_us = 1_000_000 * np.arange(count, dtype=np.int64)
    video = VideoTimes(
        pts=np.arange(9, dtype=np.int64),
        time_base=Fraction(1),
        clock_marks=np.column_stack([at_us, T0 + at_us]),
    )
    anchor = READER.anchor(write(tmp_path, EXAMPLE), video)
    assert (anchor and anchor.pts_zero_us) == (T0 if count else None)


def test_the_same_words_at_another_time_are_another_event(tmp_path: Path) -> None:
    again = [
        line(at, data) for at in (0, 5) for data in ('["keyboard.press",81]', '["mouse.move",-0,7]')
    ]
    events = READER.read(write(tmp_path, again))
    assert (events.timestamp_us - T0).tolist() == [0, 0, 5, 5]
    assert events.value[1::2].tolist() == [[0, 7], [0, 7]]
    assert not np.signbit(events.value).any()
    assert [events.raw_line(i).decode() for i in range(4)] == again
