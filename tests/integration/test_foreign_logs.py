"""Recordings by other people's recorders become datasets whose alignment is known."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from playmill import pipeline
from playmill.config import PipelineConfig
from playmill.dataset import Dataset, open_dataset
from playmill.inputs import KINDS
from playmill.testing import make_video
from playmill.video_index import index_video
from tests.conftest import SHARED

OWA = SHARED / "recordings" / "owa"


@pytest.mark.needs_shared
def test_a_recording_of_owamcap_is_published_on_its_subtitle_clock(tmp_path) -> None:
    data = pipeline.run(OWA / "0.3.2.mkv", tmp_path, PipelineConfig(encoder="mean_pixel"))
    marks = index_video(OWA / "0.3.2.mkv").clock_marks
    with open_dataset(data) as dataset:
        assert len(dataset) == 49
        pts_us = dataset.pts * 1_000_000 * dataset.time_base
        clock_us = np.interp(pts_us.astype(float), marks[:, 0], marks[:, 1] - marks[0, 1])
        inside = (pts_us >= marks[0, 0]) & (pts_us <= marks[-1, 0])
        apart_us = dataset.timestamps_us - marks[0, 1] - clock_us
        assert np.abs(apart_us[inside]).max() < 20_000
        assert inside.sum() > 30
        assert [text for text in dataset.warnings if "one frame late" in text]
        kinds = dataset.array("/inputs/kind")
        events = np.isin(kinds, [KINDS.index(k) for k in ("press", "release", "position")])
        assert events.sum() == 602
        # The picture on screen is the last before an event, however long ago it changed; before
        # the first there is none, and three snapshots and titles were taken then.
        outside = dataset.array("/sync/frame") < 0
        assert np.flatnonzero(outside).tolist() == [0, 1, 2]
        assert set(kinds[outside]) == {KINDS.index("other")}
        assert dataset.key_names == ("162", "32", "67", "69", "83", "84", "88")
        assert dataset.actions("keys")[:, 0].any()
        assert dataset.actions("key_presses").sum() == 13
        assert dataset.actions("mouse").sum(axis=0).tolist() == [995.0, 539.0]


def make_video_at(path: Path) -> None:
    """Write two seconds of video, 30 frames/s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_video(path, numbers=range(60), pts=range(60), time_base=Fraction(1, 30))


def publish(video: Path, folder: Path) -> Path:
    return pipeline.run(video, folder / "datasets", PipelineConfig(encoder="mean_pixel"))


def held(dataset: Dataset, array: str, name: str) -> list[int]:
    """Return the frames at which a key or button was down."""
    names = dataset.key_names if array == "keys" else dataset.button_names
    return np.flatnonzero(dataset.actions(array)[:, names.index(name)]).tolist()


def test_a_recording_of_owl_control_is_published(tmp_path) -> None:
    # Given a recorder that began to log 122 ms before the video, with Tab down already.
    folder = tmp_path / "session"
    make_video_at(folder / "recording.mp4")
    lines = [
        "timestamp,event_type,event_args",
        '1767633347.5859811,START,"{"inputs":{"keyboard":[9],"mouse":[]}}"',
        '1767633347.708028,VIDEO_START,"[]"',
        '1767633348.008028,KEYBOARD,"[9,false]"',
        '1767633348.208028,KEYBOARD,"[87,true]"',
        '1767633348.308028,MOUSE_MOVE,"[3,-4]"',
        '1767633348.708028,UNFOCUS,"[]"',
        '1767633349.008028,FOCUS,"[]"',
        '1767633349.708028,VIDEO_END,"[]"',
        '1767633349.708128,END,"{"inputs":{"keyboard":[87]}}"',
    ]
    (folder / "inputs.csv").write_text("\n".join(lines) + "\n")
    metadata = {"session_id": "abc", "window_name": "Mail", "hardware_id": "77", "game_exe": "g"}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    # When it is published.
    with open_dataset(publish(folder / "recording.mp4", tmp_path)) as dataset:
        # Then frames count from VIDEO_START, and the state is right from the first on.
        assert dataset.session_id == "abc"
        assert dataset.timestamps_us[0] == 1767633347708028
        assert held(dataset, "keys", "9") == list(range(9))
        assert held(dataset, "keys", "87") == list(range(15, 60))
        assert dataset.actions("mouse")[18].tolist() == [3, -4]
        assert np.flatnonzero(dataset.actions("masks")[:, 0]).tolist() == list(range(30, 39))
        assert dataset.metadata == {"session_id": "abc", "game_exe": "g"}
        assert dataset.warnings == []


def test_a_recording_of_ducktrack_is_published_on_its_own_clock(tmp_path) -> None:
    folder = tmp_path / "session"
    make_video_at(folder / "2023-10-20 17-19-53.mp4")
    lines = [
        '{"time_stamp": 150160.9, "action": "move", "x": 5.5, "y": 6}',
        '{"time_stamp": 150161.2, "action": "press", "name": "w"}',
        '{"time_stamp": 150161.5, "action": "move", "x": 15.5, "y": 5}',
        '{"time_stamp": 150161.7, "action": "release", "name": "w"}',
    ]
    (folder / "events.jsonl").write_text("\n".join(lines))
    timings = {"OBS_WEBSOCKET_OUTPUT_STARTED": [150160.7]}
    metadata = {"node": "somebody", "id": 1, "obs_record_state_timings": timings}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with open_dataset(publish(folder / "2023-10-20 17-19-53.mp4", tmp_path)) as dataset:
        assert dataset.clock == "log_us"
        assert dataset.timestamps_us[0] == 150_160_700_000
        assert held(dataset, "keys", "w") == list(range(15, 30))
        assert dataset.actions("mouse")[24].tolist() == [10, -1]
        assert "node" not in dataset.metadata
        assert "id" not in dataset.metadata


def test_a_log_with_a_mapping_is_published(tmp_path) -> None:
    folder = tmp_path / "session"
    make_video_at(folder / "match.mp4")
    events = {"key": {"device": "keyboard", "kind": "switch", "name": "k", "down": "on"}}
    mapping = {
        "schema": "playmill-mapping/1",
        "log": "{stem}.csv",
        "time": {"field": "t", "unit": "s", "clock": "video"},
        "type": "what",
        "events": events,
    }
    (folder / "playmill-mapping.json").write_text(json.dumps(mapping))
    (folder / "match.csv").write_text("t,what,k,on\n0.5,key,w,1\n1.5,key,w,0\n1.6,tap,w,0\n")
    with open_dataset(publish(folder / "match.mp4", tmp_path)) as dataset:
        assert (dataset.clock, int(dataset.timestamps_us[0])) == ("log_us", 0)
        assert held(dataset, "keys", "w") == list(range(15, 45))
        (warning,) = dataset.warnings
        assert warning.startswith("1 line of the input log was not understood (line 4: ")
