"""The reader of DuckTrack: exact monotonic times, placed by the moments of OBS."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playmill.errors import ClockError, LogError
from playmill.inputs import DEVICES, KINDS, InputEvents, LogFiles, VideoTimes
from playmill.inputs.ducktrack import DuckTrackReader
from playmill.inputs.reader import anchor_of
from tests.conftest import SHARED

READER = DuckTrackReader()
SAMPLE = SHARED / "recordings" / "ducktrack"


def line(action: str, at: str = "150160.965463208", **fields: Any) -> str:
    return f'{{"time_stamp": {at}, "action": "{action}"{_rest(fields)}}}'


def _rest(fields: dict[str, Any]) -> str:
    return "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())


def write(folder: Path, *lines: str, timings: object = None) -> LogFiles:
    (folder / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")
    metadata = folder / "metadata.json"
    metadata.write_text(json.dumps({"id": 1, "obs_record_state_timings": timings}))
    return LogFiles(video=folder / "a.mp4", log=folder / "events.jsonl", metadata=metadata)


def described(events: InputEvents) -> list[tuple[int, str, str, str | None, list[float]]]:
    return [
        (
            int(events.timestamp_us[i]),
            DEVICES[events.device[i]],
            KINDS[events.kind[i]],
            events.codes[events.code[i]] if events.code[i] >= 0 else None,
            events.value[i].tolist(),
        )
        for i in range(len(events))
    ]


def times(seconds: int = 33) -> VideoTimes:
    return VideoTimes(
        pts=np.arange(seconds * 30),
        time_base=Fraction(1, 30),
        clock_marks=np.zeros((0, 2), np.int64),
    )


def test_every_action_becomes_its_kind_of_event(tmp_path) -> None:
    files = write(
        tmp_path,
        line("move", "1.0000019", x=1.5, y=-2),
        line("click", "2", x=1.5, y=2, button="left", pressed=True),
        line("click", "2.5", x=1.5, y=2, button="left", pressed=False),
        line("scroll", "3", x=0, y=0, dx=0, dy=-1),
        line("press", "4", name="shift"),
        line("release", "5", name="shift_r"),
    )
    events = READER.read(files)
    assert described(events) == [
        (1_000_001, "mouse", "position", None, [1.5, -2]),
        (2_000_000, "mouse", "press", "left", [0, 0]),
        (2_500_000, "mouse", "release", "left", [0, 0]),
        (3_000_000, "mouse", "scroll", None, [0, -1]),
        (4_000_000, "keyboard", "press", "shift", [0, 0]),
        (5_000_000, "keyboard", "release", "shift_r", [0, 0]),
    ]
    assert events.mouse_unit == "pixels"


BAD = {
    "no JSON": ("{", "not JSON"),
    "no time": ('{"action":"press","name":"a"}', '"time_stamp" is None, not a number'),
    "time text": (line("press", '"1.5"', name="a"), '"time_stamp" is str'),
    "time true": (line("press", "true", name="a"), '"time_stamp" is True'),
    "negative": (line("press", "-1.5", name="a"), '"time_stamp" is negative'),
    "huge": (line("press", "1e300", name="a"), "2**63 us or more"),
    "NaN": (line("press", "NaN", name="a"), "not JSON: NaN"),
    "no action": ('{"time_stamp":1}', '"action" is missing'),
    "another action": (line("typed", name="a"), '"action" is unknown'),
    "no name": (line("press"), '"name" is None, not a name'),
    "x text": (line("move", x="1", y=2), '"x" is str, not a number'),
    "y huge": (line("move", x=1, y=1e30), '"y" is beyond'),
    "pressed 1": (line("click", button="left", pressed=1), '"pressed" is 1'),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_a_line_that_is_no_event_is_kept_with_its_number_and_reason(tmp_path, bad, reason) -> None:
    events = READER.read(write(tmp_path, line("press", name="a"), "", bad))
    assert len(events) == 1
    assert events.rejected.line.tolist() == [3]
    assert reason in events.rejected.reason[0]


def test_rubbish_is_an_error(tmp_path) -> None:
    with pytest.raises(LogError, match="not JSON"):
        READER.read(write(tmp_path, "rubbish"))


STARTED, STOPPING = "OBS_WEBSOCKET_OUTPUT_STARTED", "OBS_WEBSOCKET_OUTPUT_STOPPING"


class TestClock:
    def test_the_video_begins_when_obs_has_started(self, tmp_path) -> None:
        moments = {"OBS_WEBSOCKET_OUTPUT_STARTING": [1.5], STARTED: [1.5000019], STOPPING: [34.5]}
        found = READER.anchor(write(tmp_path, timings=moments), times())
        assert found is not None
        assert (found.pts_zero_us, found.clock) == (1_500_001, "log_us")
        assert found.warnings == ()

    def test_a_video_with_times_beyond_64_bits_is_an_error(self, tmp_path) -> None:
        files = write(tmp_path, timings={STARTED: [1.5], STOPPING: [34.5]})
        far = replace(times(), pts=np.array([2**62]), time_base=Fraction(1))
        with pytest.raises(ClockError, match=r"a\.mp4: found times .* beyond 64 bits"):
            anchor_of(READER, files, far)

    def test_two_starts_and_another_length_are_told(self, tmp_path) -> None:
        moments = {STARTED: [1.5, 20], STOPPING: [1.0, 90]}
        found = READER.anchor(write(tmp_path, timings=moments), times())
        assert found is not None
        assert found.pts_zero_us == 1_500_000
        assert "OBS was started 2 times" in found.warnings[0]
        assert "the video is 88.500 s long, and it is 32.967 s" in found.warnings[1]

    @pytest.mark.parametrize(
        "timings", [None, {}, [], {STARTED: []}, {STARTED: ["x"]}, {STARTED: [1], STOPPING: 5}]
    )
    def test_metadata_without_that_moment_is_an_error(self, tmp_path, timings) -> None:
        with pytest.raises(ClockError, match="no moment when the video began"):
            READER.anchor(write(tmp_path, timings=timings), times())

    def test_without_metadata_the_clock_is_unknown(self, tmp_path) -> None:
        files = write(tmp_path, line("press", name="a"))
        assert files.metadata is not None
        files.metadata.unlink()
        found = READER.find(files.video)
        assert found is not None
        assert found.metadata is None
        assert READER.anchor(found, times()) is None
        assert READER.clock(found) == "log_us"

    @pytest.mark.parametrize("other", ["b.mp4", "b.MP4", "b.mkv"])
    def test_two_videos_beside_one_log_are_an_error(self, tmp_path, other) -> None:
        files = write(tmp_path, timings={STARTED: [1]})
        for name in ("a.mp4", other):
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(ClockError, match=rf"2 videos beside one log: a\.mp4, {other}"):
            READER.anchor(files, times())

    def test_a_hidden_file_is_no_second_video(self, tmp_path) -> None:
        files = write(tmp_path, timings={STARTED: [1]})
        for name in ("a.mp4", "._a.mp4"):
            (tmp_path / name).write_bytes(b"")
        assert READER.anchor(files, times()) is not None


class TestPauses:
    """The video has no time for a pause, so frames after it would be given the events of others."""

    def test_a_recording_that_goes_on_after_a_pause_is_an_error(self, tmp_path) -> None:
        lines = line("press", "1.5", name="a"), line("pause", "2"), line("resume", "9.25")
        with pytest.raises(
            LogError, match=r"went on at 9250000 us after a pause; .* Cut the video"
        ):
            READER.read(write(tmp_path, *lines, timings={STARTED: [1]}))

    def test_a_pause_of_which_only_obs_knows_is_one_too(self, tmp_path) -> None:
        resumed = {"OBS_WEBSOCKET_OUTPUT_RESUMED": [9.25]}
        with pytest.raises(ClockError, match="went on at 9250000 us after a pause"):
            READER.anchor(write(tmp_path, timings={STARTED: [1]} | resumed), times())

    def test_a_pause_at_the_end_is_none(self, tmp_path) -> None:
        lines = line("press", "1.5", name="a"), line("pause", "2")
        events = READER.read(write(tmp_path, *lines, timings={STARTED: [1]}))
        assert [row[1:3] for row in described(events)] == [
            ("keyboard", "press"),
            ("other", "other"),
        ]


@pytest.mark.parametrize(
    ("down", "up", "key"), [("w", "W", "w"), ("É", "é", "é"), ("\x03", "c", "c"), ("1", "1", "1")]
)
def test_a_letter_is_one_key_with_shift_or_ctrl_and_without(tmp_path, down, up, key) -> None:
    lines = line("press", "1", name=down), line("release", "2", name=up)
    assert [row[2:4] for row in described(READER.read(write(tmp_path, *lines)))] == [
        ("press", key),
        ("release", key),
    ]


def test_a_session_without_inputs_is_known_by_its_metadata(tmp_path) -> None:
    files = READER.find(write(tmp_path, "", timings={STARTED: [1]}).video)
    assert files is not None
    assert len(READER.read(files)) == 0


def test_a_broken_first_line_is_rejected_alone(tmp_path) -> None:
    files = READER.find(write(tmp_path, "?", line("press", name="a")).video)
    assert files is not None
    events = READER.read(files)
    assert (len(events), events.rejected.line.tolist()) == (1, [1])


@pytest.mark.parametrize("first", ["", "{}", '{"t":1,"type":"key_down"}', "[1]", "\0\0"])
def test_a_log_of_another_format_is_not_its(tmp_path, first) -> None:
    assert READER.find(write(tmp_path, first).video) is None


@pytest.mark.needs_shared
def test_the_real_log_is_read_whole() -> None:
    files = READER.find(SAMPLE / "recording.mp4")
    assert files is not None
    events = READER.read(files)
    assert (len(events), events.rejected.total) == (13_401, 0)
    kinds = Counter(KINDS[kind] for kind in events.kind)
    assert kinds == {"position": 13_163, "scroll": 140, "press": 49, "release": 49}
    assert events.timestamp_us[0] == 150_160_965_463
    assert events.timestamp_us[-1] == 150_193_467_401
    found = READER.anchor(files, times())
    assert found is not None
    assert found.pts_zero_us == 150_160_871_470
    assert found.warnings == ()
