"""Recordings are found once each, and say what is wrong with them."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from playmill.config import PipelineConfig
from playmill.errors import ClockError, LogError, MissingStream, RecordingError, UsageError
from playmill.recording import Recording, read_recording
from playmill.recording.discovery import discover
from playmill.recording.session_file import NO_LOG
from tests.unit.job_samples import ZERO_US, make_session


def video(path: Path) -> Path:
    """Write a file that is a video by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no video")
    return path


def read(path: Path, *, pts_zero_us: int | None = None) -> Recording:
    """Read a recording whose identity is its name."""
    return read_recording(path, identity=path.name, config=PipelineConfig(pts_zero_us=pts_zero_us))


# Discovery


def test_recordings_come_in_the_order_of_paths_then_by_name(tmp_path: Path) -> None:
    for name in ("b/2", "b/10", "a/x"):
        make_session(tmp_path / name)
    loose = video(tmp_path / "b" / "15.mkv")
    found = list(discover([tmp_path / "b", tmp_path / "a"]))
    assert found == [tmp_path / "b/10", loose, tmp_path / "b/2", tmp_path / "a/x"]


def test_a_recording_that_several_paths_hold_comes_once(tmp_path: Path) -> None:
    make_session(tmp_path / "a" / "s")
    loose = video(tmp_path / "a" / "loose.mp4")
    paths = [loose, tmp_path / "a" / "s", tmp_path, tmp_path / "a", tmp_path / "a" / ".." / "a"]
    assert list(discover(paths)) == [loose, tmp_path / "a" / "s"]


def test_hidden_folders_and_files_are_skipped(tmp_path: Path) -> None:
    make_session(tmp_path / ".trash" / "s")
    video(tmp_path / "._x.mp4")
    shown = video(tmp_path / "x.mp4")
    assert list(discover([tmp_path])) == [shown]


def test_the_datasets_folder_is_skipped(tmp_path: Path) -> None:
    video(tmp_path / "datasets" / "x.mp4")
    shown = video(tmp_path / "x.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "datasets")
    assert list(discover([tmp_path], skip=[tmp_path / "a" / ".." / "datasets"])) == [shown]


def test_a_folder_with_session_json_is_not_searched_further(tmp_path: Path) -> None:
    make_session(tmp_path / "s")
    make_session(tmp_path / "s" / "inner")
    video(tmp_path / "s" / "clips" / "x.mp4")
    assert list(discover([tmp_path])) == [tmp_path / "s"]


def test_a_folder_with_a_broken_session_json_is_a_recording(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "session.json").write_bytes(b"\xff{")
    assert list(discover([tmp_path])) == [tmp_path / "s"]


@pytest.mark.parametrize("name", ["video.mp4", "session.json", "inputs.jsonl"])
def test_a_file_inside_a_session_means_the_session(tmp_path: Path, name: str) -> None:
    make_session(tmp_path / "s")
    assert list(discover([tmp_path / "s" / name])) == [tmp_path / "s"]


def test_links_in_circles_are_followed_once(tmp_path: Path) -> None:
    make_session(tmp_path / "a" / "s")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (tmp_path / "a" / "self.mp4").symlink_to(tmp_path / "a" / "self.mp4")
    (tmp_path / "a" / "gone.mp4").symlink_to(tmp_path / "nowhere")
    assert list(discover([tmp_path])) == [tmp_path / "a" / "s"]


def test_a_linked_video_is_named_by_the_link_and_found_where_it_lies(tmp_path: Path) -> None:
    stored = video(tmp_path / "store" / "5feceb66")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.mp4").symlink_to(stored)
    assert list(discover([tmp_path / "in"])) == [stored]


@pytest.mark.parametrize(
    "name", ["a b", "ünïcödé – 録画", "it's", '"q"', "-x", "--json", "100%", "[b]"]
)
def test_names_are_data(tmp_path: Path, name: str) -> None:
    make_session(tmp_path / name)
    loose = video(tmp_path / f"{name}.mp4")
    assert set(discover([tmp_path])) == {tmp_path / name, loose}
    assert read(tmp_path / name).session_id == name
    assert read(loose).source == loose


def test_a_name_that_is_no_unicode_is_read(tmp_path: Path) -> None:
    loose = video(tmp_path / os.fsdecode(b"x\xff.mp4"))
    assert [read(path).source for path in discover([tmp_path])] == [loose]


@pytest.mark.parametrize("suffix", [".mp4", ".MKV", ".webm", ".Mov", ".avi", ".ts"])
def test_videos_are_known_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    assert list(discover([video(tmp_path / f"x{suffix}")])) == [tmp_path / f"x{suffix}"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "absent: there is no such file or folder"),
        (
            "empty",
            r"empty: no recording found in it; looked for folders with session.json, videos \(",
        ),
        ("notes.txt", "notes.txt: is no recording"),
        ("loop", "loop: there is no such file or folder"),
        ("\0", "there is no such file or folder"),
    ],
)
def test_a_path_that_holds_nothing_is_a_usage_error(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError, match=message):
        list(discover([tmp_path / name]))


# session.json


def test_a_sound_session_is_read_whole(tmp_path: Path) -> None:
    metadata = make_session(tmp_path / "s", game="pong")
    recording = read(tmp_path / "s")
    assert recording.session_id == "s"
    assert recording.sources == (
        tmp_path / "s/session.json",
        tmp_path / "s/video.mp4",
        tmp_path / "s/inputs.jsonl",
    )
    assert (recording.clock, recording.pts_zero_us) == ("unix_us", ZERO_US)
    assert recording.metadata == metadata
    assert recording.warnings == ()


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    make_session(tmp_path)
    path = tmp_path / "session.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(tmp_path).session_id == tmp_path.name


@pytest.mark.parametrize("value", [None, ""], ids=["absent", "empty"])
def test_a_session_without_an_id_gets_a_lasting_one(tmp_path: Path, value: str | None) -> None:
    make_session(tmp_path / "my session", session_id=value)
    one = read_recording(tmp_path / "my session", identity="a/my session").session_id
    assert one == read_recording(tmp_path / "my session", identity="a/my session").session_id
    assert one != read_recording(tmp_path / "my session", identity="b/my session").session_id
    assert one.startswith("my-session-")


def test_a_session_without_inputs_has_no_events_and_says_so(tmp_path: Path) -> None:
    make_session(tmp_path, inputs=None)
    recording = read(tmp_path)
    assert (recording.log, recording.reader) == (None, None)
    assert recording.warnings == (f"session.json names none: {NO_LOG}",)


def test_pictures_carry_their_own_times(tmp_path: Path) -> None:
    make_session(tmp_path, video={"dir": "frames", "format": "png", "naming": "<t_us>.png"})
    (tmp_path / "frames").mkdir()
    recording = read(tmp_path)
    assert (recording.source, recording.pts_zero_us) == (tmp_path / "frames", 0)


INDEXED = {"dir": "frames", "format": "npy", "naming": "<index>.npy", "pts_zero_us": 5}


@pytest.mark.parametrize(
    ("fps", "seconds"),
    [(30, Fraction(1, 30)), (59.94, Fraction(50, 2997)), ("60000/1001", Fraction(1001, 60000))],
)
def test_pictures_named_by_index_need_a_rate(tmp_path: Path, fps: Any, seconds: Fraction) -> None:
    make_session(tmp_path, video=INDEXED | {"fps": fps})
    (tmp_path / "frames").mkdir()
    recording = read(tmp_path)
    assert (recording.time_base, recording.pts_zero_us) == (seconds, 5)


@pytest.mark.parametrize("fps", [None, 0, -1, "fast", True, "1/0", 1e9, float("1e-9"), []])
def test_a_rate_that_is_none_is_an_error(tmp_path: Path, fps: Any) -> None:
    make_session(tmp_path, video=INDEXED | {"fps": fps})
    (tmp_path / "frames").mkdir()
    with pytest.raises(ClockError, match=r"video\.fps: found .*; expected pictures a second"):
        read(tmp_path)


def test_a_null_folder_of_pictures_means_a_video(tmp_path: Path) -> None:
    make_session(tmp_path, video={"dir": None, "file": "video.mp4", "pts_zero_us": 5})
    assert read(tmp_path).source == tmp_path / "video.mp4"


TEXTS = {
    "nothing": (b"", "broken JSON at line 1, column 1"),
    "broken": (b'{"schema": \n}', "broken JSON at line 2, column 1"),
    "list": (b"[]", "found a JSON list; expected one JSON object"),
    "no utf-8": (b'{"a": "\xff"}', "bytes that are not UTF-8 at offset 7"),
    "nan": (b'{"a": NaN}', "the number NaN"),
    "infinity": (b'{"a": 1e999}', "the number 1e999"),
    "long number": (b'{"a": ' + b"1" * 5000 + b"}", r"JSON that cannot be read \(ValueError\)"),
    "deep": (b"[" * 100_000, r"JSON that cannot be read \(RecursionError\)"),
    "long": (b" " * ((16 << 20) + 1), "more than 16777216 bytes"),
}


@pytest.mark.parametrize(("text", "found"), TEXTS.values(), ids=TEXTS)
def test_session_json_that_is_no_json_object_fails(tmp_path: Path, text: bytes, found: str) -> None:
    (tmp_path / "session.json").write_bytes(text)
    with pytest.raises(RecordingError, match=found) as caught:
        read(tmp_path)
    assert caught.value.path == str(tmp_path / "session.json")
    assert caught.value.expected == "one JSON object in UTF-8"


STILLS = {"dir": "frames", "format": "png"}
WRONG: dict[str, tuple[dict[str, Any], type[RecordingError], str, str]] = {
    "no schema": ({"schema": None}, RecordingError, "schema", "None"),
    "other schema": ({"schema": "x/2"}, RecordingError, "schema", "'x/2'"),
    "schema list": ({"schema": [1]}, RecordingError, "schema", "[1]"),
    "id number": ({"session_id": 5}, RecordingError, "session_id", "5"),
    "no video": ({"video": None}, RecordingError, "video", "nothing"),
    "video list": ({"video": []}, RecordingError, "video", "[]"),
    "no file": ({"video__file": None}, RecordingError, "video.file", "nothing"),
    "file number": ({"video__file": 5}, RecordingError, "video.file", "5"),
    "file empty": ({"video__file": ""}, RecordingError, "video.file", "''"),
    "file outside": ({"video__file": "../v.mp4"}, RecordingError, "video.file", "'../v.mp4'"),
    "file absolute": ({"video__file": "/v.mp4"}, RecordingError, "video.file", "'/v.mp4'"),
    "file nul": ({"video__file": "a\0"}, RecordingError, "video.file", r"'a\x00'"),
    "file missing": ({"video__file": "v.mp4"}, MissingStream, "video.file", "no file v.mp4"),
    "file is folder": ({"video__file": "."}, MissingStream, "video.file", "which is no file"),
    "file too long": ({"video__file": "x" * 5000}, MissingStream, "video.file", "no file xxx"),
    "file surrogate": ({"video__file": "\ud800"}, MissingStream, "video.file", "no file"),
    "no anchor": ({"video__pts_zero_us": None}, ClockError, "video.pts_zero_us", "nothing"),
    "anchor float": ({"video__pts_zero_us": 1.5}, ClockError, "video.pts_zero_us", "1.5"),
    "anchor text": ({"video__pts_zero_us": "1"}, ClockError, "video.pts_zero_us", "'1'"),
    "anchor bool": ({"video__pts_zero_us": True}, ClockError, "video.pts_zero_us", "True"),
    "anchor huge": ({"video__pts_zero_us": 2**62}, ClockError, "video.pts_zero_us", str(2**62)),
    "no folder": ({"video": STILLS}, MissingStream, "video.dir", "no folder frames"),
    "dir number": ({"video": {"dir": 5}}, RecordingError, "video.dir", "5"),
    "dir outside": ({"video": {"dir": "/"}}, RecordingError, "video.dir", "'/'"),
    "no format": ({"video": {"dir": "."}}, RecordingError, "video.format", "nothing"),
    "format": ({"video": {"dir": ".", "format": "bmp"}}, RecordingError, "video.format", "'bmp'"),
    "naming": (
        {"video": {"dir": ".", "format": "png", "naming": "<number>.png"}},
        ClockError,
        "video.naming",
        "'<number>.png'",
    ),
    "inputs text": ({"inputs": "inputs.jsonl"}, RecordingError, "inputs.file", "nothing"),
    "log number": ({"inputs__file": 5}, RecordingError, "inputs.file", "5"),
    "log outside": ({"inputs__file": "../x"}, RecordingError, "inputs.file", "'../x'"),
    "log missing": ({"inputs__file": "x"}, LogError, "inputs.file", "no file x"),
    "log too long": ({"inputs__file": "x" * 5000}, LogError, "inputs.file", "no file xxx"),
    "log format": ({"inputs__format": "csv"}, ClockError, "inputs.format", "'csv'"),
    "no log format": ({"inputs__format": None}, RecordingError, "inputs.format", "nothing"),
    "log unit": ({"inputs__time_unit": "ms"}, ClockError, "inputs.time_unit", "'ms'"),
    "log clock": ({"inputs__clock": "monotonic"}, ClockError, "inputs.clock", "'monotonic'"),
    "log clock number": ({"inputs__clock": 1}, RecordingError, "inputs.clock", "1"),
}


@pytest.mark.parametrize(("changed", "kind", "place", "found"), WRONG.values(), ids=WRONG)
def test_every_wrong_value_is_named_with_its_place(
    tmp_path: Path, changed: dict[str, Any], kind: type[RecordingError], place: str, found: str
) -> None:
    make_session(tmp_path / "s", **changed)
    with pytest.raises(kind, match=place.replace(".", r"\.")) as caught:
        read(tmp_path / "s")
    error = caught.value
    assert type(error) is kind
    assert (error.place, error.path.startswith(str(tmp_path / "s"))) == (place, True)
    assert found in error.found
    assert error.expected
    assert error.action.endswith(".")
    assert len(str(error)) < 1000


# Bare videos


def test_a_bare_video_runs_on_its_own_clock(tmp_path: Path) -> None:
    recording = read(video(tmp_path / "My Game!.mp4"))
    assert (recording.clock, recording.pts_zero_us) == ("stream", 0)
    assert (recording.log, recording.session_file, recording.metadata) == (None, None, {})
    assert recording.session_id.startswith("My-Game-")
    assert [warning.split(":")[0] for warning in recording.warnings] == ["no input log", "no clock"]


def test_a_bare_video_with_a_given_time_runs_on_the_unix_clock(tmp_path: Path) -> None:
    recording = read(video(tmp_path / "x.mp4"), pts_zero_us=7)
    assert (recording.clock, recording.pts_zero_us) == ("unix_us", 7)
    assert len(recording.warnings) == 1


@pytest.mark.parametrize("name", ["mylog.jsonl", "KEYS.CSV"])
def test_what_may_be_the_log_of_a_lone_video_is_named(tmp_path: Path, name: str) -> None:
    path = video(tmp_path / "x.mp4")
    (tmp_path / name).write_text("what is this\n")
    assert f"Beside it lies {name}, which no reader takes" in read(path).warnings[0]
    video(tmp_path / "y.mp4")
    assert read(path).warnings[0] == NO_LOG


def test_a_sessions_log_in_capitals_is_an_error(tmp_path: Path) -> None:
    path = video(tmp_path / "VIDEO.MP4")
    (tmp_path / "INPUTS.JSONL").write_text('{"t":1,"type":"key_down","key":"w"}\n')
    with pytest.raises(LogError, match="with a suffix in capitals"):
        read(path)


@pytest.mark.parametrize("name", ["", "録画", "---"])
def test_a_bare_video_always_has_a_safe_name(tmp_path: Path, name: str) -> None:
    path = video(tmp_path / f"{name}x.mp4")
    path = path.rename(tmp_path / f"{name or '.'}.mp4")
    session_id = read(path).session_id
    assert session_id.startswith("recording-")
    assert session_id.isascii()


def test_a_log_beside_a_bare_video_needs_a_clock(tmp_path: Path) -> None:
    path = video(tmp_path / "x.mp4")
    (tmp_path / "inputs.jsonl").touch()
    with pytest.raises(ClockError, match=r"but no session\.json; .* or give --pts-zero-us"):
        read(path)
    assert read(path, pts_zero_us=7).log == tmp_path / "inputs.jsonl"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".mcap"])
def test_a_log_in_an_unknown_format_is_not_passed_over(tmp_path: Path, suffix: str) -> None:
    path = video(tmp_path / "x.mp4")
    (tmp_path / f"x{suffix}").write_text("torn")
    with pytest.raises(LogError, match=f"x{suffix} beside it, in a format that no reader"):
        read(path, pts_zero_us=7)


def test_the_log_of_another_video_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "y.jsonl").touch()
    assert read(video(tmp_path / "x.mp4")).log is None


def test_a_video_that_has_gone_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingStream, match=r"no file x\.mp4"):
        read(tmp_path / "x.mp4")


@pytest.mark.parametrize("value", [None, "null"], ids=["absent", "null"])
def test_a_given_time_helps_a_session_without_one(tmp_path: Path, value: str | None) -> None:
    session = make_session(tmp_path, video__pts_zero_us=None)
    if value is not None:
        session["video"]["pts_zero_us"] = None
        (tmp_path / "session.json").write_text(json.dumps(session))
    assert read(tmp_path, pts_zero_us=7).pts_zero_us == 7


def test_a_session_believes_itself_first(tmp_path: Path) -> None:
    make_session(tmp_path)
    assert read(tmp_path, pts_zero_us=7).pts_zero_us == ZERO_US
