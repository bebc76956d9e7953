from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from playmill.command.inspection import as_json, describe
from playmill.errors import DatasetError
from playmill.inputs.events import InputEvents
from playmill.storage import DataStorage
from tests.unit.dataset_samples import make_content, make_events, make_features, make_images


@pytest.fixture
def path(tmp_path: Path) -> Path:
    content = make_content(flags=np.full(150, 4, np.uint8))
    return DataStorage(tmp_path).write(
        content, features=[make_features(), make_features(key="b", dim=8)], images=make_images()
    )


def test_the_page_says_what_a_person_wants_to_know(path: Path) -> None:
    text = describe(path)
    for expected in (
        "s-1  (clock unix_us)",
        "150 in 4.967 s, 30 frames/s; 33.333 ms from one to the next (median; longest 33.334 ms)",
        "150 gap_before",
        "encoder-a: 24 x float16, fp32 by torch, weights 000000000000",
        "b: 8 x float16",
        "150 x 6 x 8 x 3",
        "259 events: 87 press, 86 release, 86 move; 3 lines rejected",
        "policy following, window 100 ms, latency 0 ms",
        "1 duplicate line,",
        "a 42, w 42",
        "play.mp4",
        "the log is short",
    ):
        assert expected in text, text
    assert len(text.splitlines()) < 25


def test_the_same_facts_come_as_json(path: Path) -> None:
    about = json.loads(json.dumps(as_json(path), allow_nan=False))
    assert about["frames"]["count"] == 150
    assert about["frames"]["flags"]["gap_before"] == 150
    assert about["sync"]["assigned"] + about["sync"]["unassigned"] == about["inputs"]["events"]
    assert [entry["key"] for entry in about["features"]] == ["b", "encoder-a"]
    assert about["keys"] == {"a": 42, "w": 42}


def test_one_frame_without_a_log_and_without_a_window_can_be_shown(tmp_path: Path) -> None:
    content = make_content(1, events=InputEvents.none(), window_us=None)
    path = DataStorage(tmp_path).write(content)
    assert as_json(path)["sync"]["window_ms"] is None
    assert "1 in 0.000 s\n" in describe(path)
    assert "window none" in describe(path)


def test_many_names_and_warnings_are_cut_short(tmp_path: Path) -> None:
    events = make_events(range(10**9, 10**9 + 90), keys=[f"k{i:02d}" for i in range(30)])
    content = make_content(5, events=events, warnings=[f"warning {i}" for i in range(20)])
    text = describe(DataStorage(tmp_path).write(content))
    assert "... 18 more" in text
    assert "... and 12 more" in text


def test_keys_that_are_numbers_are_named(tmp_path: Path) -> None:
    events = make_events(range(10**9, 10**9 + 6), keys=["84", "1"])
    codes = tuple({"84": "KeyT", "1": "Digit1"}[name] for name in events.codes[:2])
    events = replace(events, w3c_codes=(*codes, *[""] * (len(events.codes) - 2)))
    path = DataStorage(tmp_path).write(make_content(5, events=events))
    assert "84 (KeyT) " in describe(path)
    assert "(Digit1)" not in describe(path)


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    content = make_content(session_id="a\x1b[2Jb", warnings=["line\nbreak"])
    text = describe(DataStorage(tmp_path).write(content))
    assert "\x1b" not in text
    assert r"a\x1b[2Jb" in text
    assert r"line\nbreak" in text


def test_what_is_no_dataset_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("text")
    with pytest.raises(DatasetError, match="not a readable HDF5 file"):
        describe(tmp_path / "x.h5")
    with pytest.raises(FileNotFoundError, match="no such dataset"):
        describe(tmp_path / "y.h5")


def test_a_damaged_dataset_is_an_error_not_a_crash(path: Path) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        del file["/sync"]
    with pytest.raises(DatasetError, match="playmill verify"):
        describe(path)
