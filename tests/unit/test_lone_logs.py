"""Logs without a video are told of; logs that belong to one, and other files, are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from playmill.recording import lone_logs as module
from playmill.recording.discovery import discover
from playmill.recording.lone_logs import LoneLog
from tests.unit.job_samples import make_session
from tests.unit.mcap_samples import write_mcap

MAPPING = {
    "schema": "playmill-mapping/1",
    "log": "{stem}.csv",
    "time": {"field": "t", "unit": "s", "clock": "video"},
    "events": {"": {"kind": "other"}},
}
DUCKTRACK = '{"time_stamp": 1.5, "action": "move", "x": 1, "y": 2}\n'
OWA_LINES = '{"timestamp_ns": 1, "event_src": "control_publisher", "event_data": "[]"}\n'
VPT = '{"mouse": {}, "keyboard": {}, "tick": 1}\n'


def find(*paths: Path) -> tuple[list[Path], list[LoneLog]]:
    """Return the recordings, and the logs without a video."""
    lone: list[LoneLog] = []
    return list(discover(paths, tell=lone.append)), lone


def write_mapped(folder: Path) -> None:
    (folder / "game.csv").write_text("t\n0.5\n")
    (folder / "playmill-mapping.json").write_text(json.dumps(MAPPING))


def write_owamcap(folder: Path) -> None:
    write_mcap(folder / "game.mcap", [("keyboard", 0, {"event_type": "press", "vk": 65})])


LOGS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "ducktrack": ("events.jsonl", lambda folder: (folder / "events.jsonl").write_text(DUCKTRACK)),
    "openai-vpt": ("game.jsonl", lambda folder: (folder / "game.jsonl").write_text(VPT)),
    "owamcap": ("game.mcap", write_owamcap),
    "owa-jsonl": ("event.jsonl", lambda folder: (folder / "event.jsonl").write_text(OWA_LINES)),
    "generic": ("game.csv", write_mapped),
    "gameplay-session/1": (
        "inputs.jsonl",
        lambda folder: (folder / "inputs.jsonl").write_text('{"t": 1, "type": "key_down"}\n'),
    ),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_of_a_known_format_without_its_video_is_told_of(tmp_path: Path, name: str) -> None:
    log, write = LOGS[name]
    write(tmp_path)
    found, lone = find(tmp_path, tmp_path)
    assert found == []
    assert [(entry.path, entry.format) for entry in lone] == [(tmp_path / log, name)]
    assert f"({name}) without its video; put " in lone[0].why


@pytest.mark.parametrize("name", LOGS)
def test_a_log_beside_a_video_is_its_log(tmp_path: Path, name: str) -> None:
    LOGS[name][1](tmp_path)
    (tmp_path / "game.mp4").touch()
    assert find(tmp_path) == ([tmp_path / "game.mp4"], [])


def test_a_log_of_another_name_than_the_videos_is_told_of(tmp_path: Path) -> None:
    write_owamcap(tmp_path)
    (tmp_path / "other.mp4").touch()
    found, lone = find(tmp_path)
    assert found == [tmp_path / "other.mp4"]
    assert [entry.path.name for entry in lone] == ["game.mcap"]


def test_other_files_are_not_told_of(tmp_path: Path) -> None:
    make_session(tmp_path / "session")
    (tmp_path / "session" / "events.jsonl").write_text(DUCKTRACK)
    (tmp_path / "scores.csv").write_text("name,score\n")
    (tmp_path / "inputs.jsonl").write_text('{"prompt": "x"}\n')
    (tmp_path / "notes.txt").write_text(DUCKTRACK)
    (tmp_path / "broken.mapping.json").write_text("{")
    (tmp_path / "broken.csv").write_text("t\n")
    assert find(tmp_path) == ([tmp_path / "session"], [])


def test_no_reader_is_asked_where_every_log_has_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> None:
        raise AssertionError("a reader was asked")

    for number in range(20):
        (tmp_path / f"{number}.mp4").touch()
        (tmp_path / f"{number}.jsonl").write_text(VPT)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").touch()
    monkeypatch.setattr(module, "readers", ask)
    assert len(find(tmp_path)[0]) == 20
