"""A reader takes the recordings of its own format, and leaves those of all others alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from playmill.inputs import READERS
from playmill.inputs.reader import VIDEO_SUFFIXES
from tests.conftest import SHARED

RECORDINGS = SHARED / "recordings"
OWNERS = {"vpt": "openai-vpt", "owa": "owamcap"}
"""Folder of recordings -> name of the only reader that may find a log there."""


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", READERS)
def test_a_reader_finds_no_recording_of_another_format(name: str) -> None:
    videos = [path for path in RECORDINGS.rglob("*") if path.suffix in VIDEO_SUFFIXES]
    assert len(videos) > 10
    for video in videos:
        owner = OWNERS.get(video.relative_to(RECORDINGS).parts[0])
        found = READERS[name].find(video)
        assert found is None or owner == name, f"{name} takes {video} for its own"


@pytest.mark.needs_shared
def test_the_recordings_of_openai_vpt_are_found() -> None:
    (video,) = (RECORDINGS / "vpt").glob("*.mp4")
    found = READERS["openai-vpt"].find(video)
    assert found is not None
    assert found.log == Path(video).with_suffix(".jsonl")
