"""What a run would do is told as the run does it, failures included."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from playmill.command.forecast import Forecast, forecast, frames_per_second, outlook, total
from playmill.config import PipelineConfig
from playmill.recording.lone_logs import LoneLog
from playmill.storage import DataStorage
from playmill.testing import make_recording
from tests.unit.dataset_samples import make_content, make_features

CONFIG = PipelineConfig(encoder="mean_pixel")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A second of video with its log."""
    make_recording(tmp_path / "session", seconds=1)
    return tmp_path / "session"


def shift(recording: Path, by_us: int) -> None:
    """Move all events of a recording in time."""
    log = recording / "inputs.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    moved = [json.dumps(line | {"t": line["t"] + by_us}) for line in lines]
    log.write_text("".join(f"{line}\n" for line in moved))


def test_a_sound_recording_is_counted(recording: Path) -> None:
    (row,) = forecast([recording], CONFIG)
    assert (row.frames, row.chunks, row.error, row.warnings) == (30, 1, None, ())
    assert row.events == len((recording / "inputs.jsonl").read_text().splitlines())
    assert ", 30 frames, " in next(outlook([row]))
    assert ", 1 chunk, " in next(outlook([row]))


def test_a_log_that_is_off_by_a_day_would_fail(recording: Path) -> None:
    shift(recording, 86_400_000_000)
    (row,) = forecast([recording], CONFIG)
    assert row.frames is None
    assert "none in the video" in str(row.error)


def test_a_log_that_hardly_meets_the_video_is_a_warning(recording: Path) -> None:
    shift(recording, 900_000)
    (row,) = forecast([recording], CONFIG)
    assert any("fall into the video" in warning for warning in row.warnings)
    assert "  warning: only " in "\n".join(outlook([row]))


def test_what_fails_does_not_keep_the_rest_from_being_planned(
    recording: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    lone = LoneLog(path=tmp_path / "x.mcap", format="owamcap", missing="the video")
    rows = [*forecast([text, recording], CONFIG), Forecast.of_lone_log(lone)]
    assert [row.error is None for row in rows] == [False, True, True]
    lines = list(outlook(rows))
    assert lines[0].startswith(f"{text}: would fail: ")
    assert lines[-1].startswith(f"{lone.path}: skipped: an input log (owamcap) without its video")
    text_of_all = total(rows, 60.0)
    assert text_of_all.startswith(
        "1 recording would be made, 1 would fail, 1 log without a video skipped; 30 frames, "
    )
    assert "about 0 s for one extracting process" in text_of_all
    assert "(60 frames/s" in text_of_all


def test_where_nothing_is_to_be_done_no_rate_is_named(tmp_path: Path) -> None:
    rows = [Forecast(recording="x.mp4", error="it is text")]
    assert total(rows, None) == "0 recordings would be made, 1 would fail"


def test_the_backbone_is_measured_with_all_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playmill.command.forecast.MEASURED_S", 0.05)
    assert frames_per_second(CONFIG) > 10


def test_what_is_published_already_or_taken_by_another_video_is_foreseen(
    recording: Path, tmp_path: Path
) -> None:
    datasets = tmp_path / "datasets"
    DataStorage(datasets).write(make_content(session_id="x"), features=[make_features()])
    (row,) = forecast([recording], CONFIG, datasets=datasets)
    assert (row.published, row.error) == (False, None)
    (datasets / "session_x").rename(datasets / f"session_{row.session_id}")
    (row,) = forecast([recording], CONFIG, datasets=datasets)
    assert "the dataset of another video" in (row.error or "")
    mine = replace(row, frames=30, seconds=1.0, error=None, published=True)
    assert next(outlook([mine])).endswith("; its dataset is there already")
    assert total([mine], None) == "0 recordings would be made, 0 would fail, 1 is there already"
