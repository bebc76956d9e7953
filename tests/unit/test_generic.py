"""A log of a team's own is read by its mapping file, whose mistakes are named by their place."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playmill.errors import ClockError, LogError
from playmill.inputs import DEVICES, KINDS, InputEvents, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.generic import GenericReader

READER = GenericReader()
VIDEO = VideoTimes(
    pts=np.arange(60), time_base=Fraction(1, 30), clock_marks=np.zeros((0, 2), np.int64)
)
MAPPING: dict[str, Any] = {
    "schema": "playmill-mapping/1",
    "log": "{stem}.jsonl",
    "time": {"field": "ts", "unit": "ms", "clock": "unix"},
    "type": "ev",
    "events": {
        "down": {"device": "keyboard", "kind": "press", "name": "key"},
        "up": {"device": "keyboard", "kind": "release", "name": "key"},
        "look": {"device": "mouse", "kind": "move", "x": "dx", "y": "dy"},
        "at": {"device": "mouse", "kind": "position", "x": "px", "y": "py"},
        "fire": {"device": "mouse", "kind": "switch", "name_is": "left", "down": "on"},
        "wheel": {"device": "mouse", "kind": "scroll", "y": "turn"},
        "stick": {"device": "gamepad", "kind": "axis", "name": "axis", "value": "v"},
        "rec": {"kind": "other"},
        "chat": None,
    },
}
JSONL = [
    {"ts": 1744364222033.333, "ev": "down", "key": "w"},
    {"ts": 1744364222034, "ev": "up", "key": "w"},
    {"ts": 1744364222035, "ev": "look", "dx": -3, "dy": 1.5},
    {"ts": 1744364222036, "ev": "at", "px": 10, "py": 20},
    {"ts": 1744364222037, "ev": "fire", "on": True},
    {"ts": 1744364222038, "ev": "fire", "on": 0},
    {"ts": 1744364222039, "ev": "wheel", "turn": -1},
    {"ts": 1744364222040, "ev": "stick", "axis": 2, "v": -0.5},
    {"ts": 1744364222041, "ev": "rec"},
    {"ts": 1744364222042, "ev": "chat", "text": "hello"},
]
CSV = """ts;ev;key;dx;dy;on;v
1744364222033.3339;down;w;;;;
1744364222034;up;w;;;;
1744364222035;look;;-3;1.5;;
1744364222036;at;;10;20;;
1744364222037;fire;;;;TRUE;
1744364222038;fire;;;;0;
1744364222039;wheel;;;;;-1
1744364222040;stick;2;;;;-0.5
1744364222041;rec
1744364222042;chat;"hello; ""you"" all";;;;
"""
CSV_EVENTS = MAPPING["events"] | {
    "at": {"device": "mouse", "kind": "position", "x": "dx", "y": "dy"},
    "wheel": {"device": "mouse", "kind": "scroll", "y": "v"},
    "stick": {"device": "gamepad", "kind": "axis", "name": "key", "value": "v"},
}


def write(folder: Path, lines: list[Any] | str, **changes: Any) -> LogFiles:
    mapping = MAPPING | changes
    log = folder / str(mapping.get("log")).replace("{stem}", "a")
    text = lines if isinstance(lines, str) else "\n".join(map(json.dumps, lines))
    log.write_text(text, encoding="utf-8")
    (folder / "a.mapping.json").write_text(json.dumps(mapping))
    video = folder / "a.mp4"
    return LogFiles(video=video, log=log, sides=(folder / "a.mapping.json",))


def described(events: InputEvents) -> list[tuple[int, str, str, str | None, list[float]]]:
    return [
        (
            int(events.timestamp_us[i]) - 1744364222_000_000,
            DEVICES[events.device[i]],
            KINDS[events.kind[i]],
            events.codes[events.code[i]] if events.code[i] >= 0 else None,
            events.value[i].tolist(),
        )
        for i in range(len(events))
    ]


@pytest.mark.parametrize(
    ("lines", "changes"),
    [
        (JSONL, {}),
        (CSV, {"log": "{stem}.csv", "delimiter": ";", "events": CSV_EVENTS}),
        (
            CSV.partition("\n")[2],
            {
                "log": "inputs.txt",
                "format": "csv",
                "delimiter": ";",
                "columns": ["ts", "ev", "key", "dx", "dy", "on", "v"],
                "events": CSV_EVENTS,
            },
        ),
    ],
    ids=["JSONL", "CSV", "CSV without a first line of names"],
)
def test_every_kind_of_event_is_read(tmp_path, lines, changes) -> None:
    files = write(tmp_path, lines, **changes)
    assert READER.find(files.video) == files
    events = READER.read(files)
    assert events.rejected.total == 0
    assert described(events) == [
        (33_333, "keyboard", "press", "w", [0, 0]),
        (34_000, "keyboard", "release", "w", [0, 0]),
        (35_000, "mouse", "move", None, [-3, 1.5]),
        (36_000, "mouse", "position", None, [10, 20]),
        (37_000, "mouse", "press", "left", [0, 0]),
        (38_000, "mouse", "release", "left", [0, 0]),
        (39_000, "mouse", "scroll", None, [0, -1]),
        (40_000, "gamepad", "axis", "2", [-0.5, 0]),
        (41_000, "other", "other", None, [0, 0]),
    ]


def test_a_clock_that_was_set_back_is_told(tmp_path) -> None:
    (warning,) = READER.read(write(tmp_path, [JSONL[-2], JSONL[0] | {"ts": 5}])).warnings
    assert "go back by 1744364222.036 s" in warning


def test_lines_may_all_be_of_one_type_and_keys_of_windows(tmp_path) -> None:
    event = {"device": "keyboard", "kind": "switch", "name": "vk", "down": "down"}
    files = write(
        tmp_path,
        [{"ts": 1, "vk": 87, "down": True}],
        type=None,
        events={"": event},
        keys="windows_vk",
    )
    events = READER.read(files)
    assert (events.codes, events.w3c_codes) == (("87",), ("KeyW",))


@pytest.mark.parametrize(
    "text",
    ["ts,ev,key\n1,down, \n2, up , w \n", 'ts,ev,key\n1,down," "\n2,up,"w"  \n'],
    ids=["plain", "quoted"],
)
def test_a_blank_alone_is_the_space_bar(tmp_path, text) -> None:
    events = READER.read(write(tmp_path, text, log="{stem}.csv"))
    assert events.rejected.total == 0
    assert [row[2:4] for row in described(events)] == [("press", " "), ("release", "w")]


@pytest.mark.parametrize(
    ("unit", "time", "time_us"),
    [("s", "1.0000019", 1_000_001), ("us", "7", 7), ("ns", "1999", 1), ("ms", "1e3", 1_000_000)],
)
def test_times_of_every_unit_are_exact(tmp_path, unit, time, time_us) -> None:
    line = f'{{"ts": {time}, "ev": "rec"}}'
    files = write(tmp_path, line, time={"field": "ts", "unit": unit, "clock": "unix"})
    assert READER.read(files).timestamp_us.tolist() == [time_us]


class TestClock:
    def test_time_from_pts_0_needs_no_anchor(self, tmp_path) -> None:
        clock = {"field": "ts", "unit": "ms", "clock": "video"}
        found = READER.anchor(write(tmp_path, JSONL, time=clock), VIDEO)
        assert found is not None
        assert (found.pts_zero_us, found.clock) == (0, "log_us")

    @pytest.mark.parametrize(("clock", "name"), [("unix", "unix_us"), ("log", "log_us")])
    def test_a_line_says_when_the_video_begins(self, tmp_path, clock, name) -> None:
        time = {"field": "ts", "unit": "ms", "clock": clock}
        lines = [*JSONL, {"ts": 1, "ev": "other"}, {"ts": 1744364222050, "ev": "rec"}]
        found = READER.anchor(write(tmp_path, lines, time=time, video_start="rec"), VIDEO)
        assert found is not None
        assert (found.pts_zero_us, found.clock) == (1744364222_041_000, name)
        without = write(tmp_path, JSONL[:3], time=time, video_start="rec")
        assert READER.clock(without) == name
        assert found.warnings == ("the log says 2 times that the video began: the first",)

    def test_no_such_line_is_an_error(self, tmp_path) -> None:
        with pytest.raises(ClockError, match=r"no line of type 'rec' .*a\.mapping\.json"):
            READER.anchor(write(tmp_path, JSONL[:3], video_start="rec"), VIDEO)

    def test_unix_time_alone_leaves_it_to_the_user(self, tmp_path) -> None:
        assert READER.anchor(write(tmp_path, JSONL), VIDEO) is None


EVENT = {"device": "keyboard", "kind": "press", "name": "key"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "schema": ({"schema": "x"}, "schema: found 'x'; expected 'playmill-mapping/1'"),
    "another name": ({"tine": 1}, "tine: found a name that means nothing here"),
    "log": ({"log": 5}, "log: found 5; expected the name of the log"),
    "a log outside": ({"log": "../a.jsonl"}, "log: found '../a.jsonl'"),
    "a log that is not there": ({"log": "{stem}-x.jsonl"}, "log: found no file a-x.jsonl"),
    "format": ({"format": "xml"}, "format: found 'xml'; expected one of jsonl, csv"),
    "delimiter": ({"delimiter": "ab"}, "delimiter: found 'ab'"),
    "columns": ({"columns": "ts"}, "columns: found 'ts'; expected a list"),
    "no time": ({"time": None}, "time: found nothing; expected an object"),
    "time.field": ({"time": {"unit": "ms", "clock": "unix"}}, "time.field: found nothing"),
    "unit": ({"time": {"field": "t", "unit": "min", "clock": "unix"}}, "time.unit: found 'min'"),
    "clock": ({"time": {"field": "t", "unit": "ms"}}, "time.clock: found nothing"),
    "unhashable": ({"keys": []}, r"keys: found \[\]; expected one of plain"),
    "type": ({"type": 5}, "type: found 5"),
    "no type": ({"type": None}, 'events: found .* expected the one type ""'),
    "no events": ({"events": {}}, "events: found nothing"),
    "an event": ({"events": {"a": 5}}, r"events\.a: found 5; expected an object"),
    "kind": ({"events": {"a": EVENT | {"kind": "tap"}}}, r"events\.a\.kind: found 'tap'"),
    "device": ({"events": {"a": EVENT | {"device": "pen"}}}, r"events\.a\.device: found 'pen'"),
    "field": ({"events": {"a": EVENT | {"x": "dx"}}}, r"events\.a\.x: found a field"),
    "odd field": ({"events": {"a": EVENT | {"z": "dx"}}}, r"events\.a\.z: found a name that"),
    "no name": ({"events": {"a": EVENT | {"name": None}}}, r"events\.a\.name: found not one"),
    "no value": ({"events": {"a": EVENT | {"kind": "axis"}}}, r"events\.a\.value: found nothing"),
    "video_start": ({"video_start": "x"}, "video_start: found 'x'; expected a type that is named"),
    "log clock": (
        {"time": {"field": "t", "unit": "ms", "clock": "log"}},
        "video_start: found nothing",
    ),
    "video clock": (
        {"time": {"field": "t", "unit": "ms", "clock": "video"}, "video_start": "rec"},
        "video_start: found 'rec'; expected nothing",
    ),
    "private": ({"private": [1]}, r"private: found \[1\]"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_the_mapping_is_named_with_its_place(tmp_path, changes, message) -> None:
    write(tmp_path, JSONL)
    (tmp_path / "a.mapping.json").write_text(json.dumps(MAPPING | changes))
    with pytest.raises(LogError, match=message):
        READER.find(tmp_path / "a.mp4")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * 300_000])
def test_a_mapping_that_is_no_object_is_an_error(tmp_path, content) -> None:
    (tmp_path / "playmill-mapping.json").write_bytes(content)
    with pytest.raises(LogError, match=r"playmill-mapping\.json: found .*one JSON object"):
        READER.find(tmp_path / "a.mp4")


def test_a_mapping_for_a_folder_serves_each_video(tmp_path) -> None:
    write(tmp_path, JSONL)
    (tmp_path / "a.mapping.json").rename(tmp_path / "playmill-mapping.json")
    found = READER.find(tmp_path / "a.mp4")
    assert found is not None
    assert found.log == tmp_path / "a.jsonl"
    with pytest.raises(LogError, match=r"log: found no file b\.jsonl"):
        READER.find(tmp_path / "b.mp4")


def test_without_a_mapping_there_is_nothing_to_find_or_read(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    assert READER.find(tmp_path / "a.mp4") is None
    with pytest.raises(LogError, match="no mapping file"):
        READER.read(LogFiles(video=tmp_path / "a.mp4", log=tmp_path / "a.jsonl"))


BAD_JSON = {
    "no JSON": ("{", "not JSON"),
    "another type": ('{"ts":1,"ev":"x"}', "'x', which the mapping does not name"),
    "no type": ('{"ts":1}', '"ev" is missing'),
    "no time": ('{"ev":"rec"}', '"ts" is missing'),
    "time text": ('{"ts":"1","ev":"rec"}', '"ts" is str, not a number'),
    "time negative": ('{"ts":-1,"ev":"rec"}', '"ts" is negative'),
    "time huge": ('{"ts":1e300,"ev":"rec"}', "2**63 us or more"),
    "key a list": ('{"ts":1,"ev":"up","key":[1]}', '"key" is list, not a text'),
    "key 1.5": ('{"ts":1,"ev":"up","key":1.5}', '"key" is 1.5, not a text'),
    "dx true": ('{"ts":1,"ev":"look","dx":true,"dy":1}', '"dx" is True, not a number'),
    "on text": ('{"ts":1,"ev":"fire","on":"on"}', "not true, false, 1 or 0"),
    "on 2": ('{"ts":1,"ev":"fire","on":2}', "not true, false, 1 or 0"),
}


@pytest.mark.parametrize(("line", "reason"), BAD_JSON.values(), ids=BAD_JSON)
def test_a_line_of_json_that_is_no_event_is_kept(tmp_path, line, reason) -> None:
    events = READER.read(write(tmp_path, json.dumps(JSONL[0]) + "\n\n" + line + "\n"))
    assert (len(events), events.rejected.line.tolist()) == (1, [3])
    assert reason in events.rejected.reason[0]
    assert events.rejected.raw.tobytes() == line.encode()


BAD_CSV = {
    "an open quote": ('1;down;"w;;;;', "not CSV"),
    "too many fields": ("1;down;w;;;;;9", "has 8 fields, more than 7"),
    "no time": (";down;w;;;;", '"ts" is missing'),
    "time of words": ("now;down;w;;;;", "'now', not a decimal number"),
    "time of too many places": ("1." + "0" * 101 + ";down;w;;;;", "not a decimal number"),
    "time NaN": ("nan;down;w;;;;", "'nan', not a decimal number"),
    "dx 1_0": ("1;look;;1_0;2;;", "'1_0', not a decimal number"),
    "switch of words": ("1;fire;;;;maybe;", '"on" is str, not true, false, 1 or 0'),
    "NUL": ("\0\0;down;w;;;;", "not a decimal number"),
    "long": ("1;down;" + "w" * 200_000, '"key" has 200000 bytes'),
}


@pytest.mark.parametrize(("line", "reason"), BAD_CSV.values(), ids=BAD_CSV)
def test_a_line_of_csv_that_is_no_event_is_kept(tmp_path, line, reason) -> None:
    text = "\n".join([*CSV.splitlines()[:2], line])
    changes = {"log": "a.csv", "delimiter": ";", "events": CSV_EVENTS}
    events = READER.read(write(tmp_path, text, **changes))
    assert (len(events), events.rejected.line.tolist()) == (1, [3])
    assert reason in events.rejected.reason[0]


def test_rubbish_is_an_error(tmp_path) -> None:
    with pytest.raises(LogError, match=r"lines as a\.mapping\.json describes them"):
        READER.read(write(tmp_path, "rubbish"))


@pytest.mark.parametrize("kind", ["JSONL", "CSV"])
def test_private_fields_are_left_out_unless_asked_for(tmp_path, kind) -> None:
    events = MAPPING["events"] | {"chat": {"kind": "other"}}
    if kind == "JSONL":
        files = write(tmp_path, [*JSONL, {"ev": "chat", "text": "hello"}], events=events,
                      private=["text"])  # fmt: skip
    else:
        text = "ts,ev,a,text,b\n1,chat,2,hello,3\nx,chat,,hello,\n"
        files = write(tmp_path, text, log="a.csv", events=events, private=["text"])
    plain = READER.read(files)
    kept = READER.read(files, ReadOptions(keep_text=True))
    assert len(plain) == len(kept)
    assert plain.rejected.total == kept.rejected.total == 1
    assert b"hello" not in plain.raw.tobytes() + plain.rejected.raw.tobytes()
    assert b"hello" in kept.raw.tobytes()
    assert b"hello" in kept.rejected.raw.tobytes()
    if kind == "CSV":
        assert plain.raw_line(0) == b"1,chat,2,,3"
