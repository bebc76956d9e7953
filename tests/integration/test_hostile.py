"""Unsound recordings beside sound ones, in one run: each ends as its expect.json says."""

from __future__ import annotations

import json

import h5py
import pytest

from playmill.verify import verify
from tests.conftest import SHARED
from tests.integration.support import EXAMPLES, Playmill

HOSTILE = SHARED / "recordings" / "hostile"
FAILED = {
    "audio-only-mp4": "no video stream",
    "log-out-of-range": "none in the video",
    "missing-session-json": "give --pts-zero-us",
    "truncated-mp4": "cannot be opened",
    "zero-byte-mp4": "an empty file",
}
"""Recordings that cannot become a dataset one can trust, and a word of the reason."""


@pytest.mark.needs_shared
def test_every_hostile_recording_ends_as_it_should(playmill: Playmill) -> None:
    status, rows, err = playmill.run(HOSTILE, EXAMPLES / "doom-320x240-audio")
    assert status == 1
    assert "Traceback" not in err
    seen = {}
    for row in rows[:-1]:
        folder = row["recording"].removesuffix("/video.mp4")
        seen[folder.rpartition("/")[2]] = row
    assert seen.keys() == {folder.name for folder in HOSTILE.iterdir()}
    for name, row in seen.items():
        if name in FAILED:
            assert row["state"] == "failed", name
            assert FAILED[name] in row["error"], row["error"]
            assert row["dataset"] is None
            continue
        expect = json.loads((HOSTILE / name / "expect.json").read_text())
        assert row["state"] == "published", (name, row["error"])
        assert row["frames"] == expect.get("decodable_frames", expect.get("readable_frames"))
        assert verify(row["dataset"]) == [], name
    assert rows[-1]["state"] == "published"
    with h5py.File(seen["log-garbage"]["dataset"]) as file:
        bad = json.loads((HOSTILE / "log-garbage" / "badlines.json").read_text())
        invalid = {line["line"] for line in bad if line["class"] == "invalid"}
        assert invalid <= set(file["inputs/rejected_line"][...].tolist())
