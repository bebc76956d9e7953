"""Outcome: what people are told of each recording."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from workers.outcome import KEYS, Row, print_outline, print_rows


def published(job_id: str) -> Row:
    """Return the row of a dataset of 20 frames."""
    about = {"recording": "/r", "state": "published", "dataset": "/d/data.h5", "warnings": []}
    counts = {"frames": 20, "events": 5, "unassigned_events": 0}
    return dict.fromkeys(KEYS) | about | counts | {"job_id": job_id}


def test_a_dataset_that_was_there_already_is_said_to_have_been() -> None:
    out = io.StringIO()
    print_rows([published("new"), published("old")], Console(file=out), there={"old"})
    new, old = out.getvalue().splitlines()
    assert "-> /d/data.h5" in new
    assert "already" not in new
    assert old == new + ", which was there already"


def test_files_are_named_as_seen_from_the_recording(tmp_path: Path) -> None:
    folder, video = tmp_path / "a session", tmp_path / "lone.mp4"
    folder.mkdir()
    rows = [
        dict.fromkeys(KEYS)
        | {"recording": str(path), "state": "failed", "warnings": [], "error": f"{named}: empty"}
        for path, named in ((folder, folder / "video.mp4"), (video, video))
    ]
    out = io.StringIO()
    print_rows(rows, Console(file=out))
    assert [line for line in out.getvalue().splitlines() if "error" in line] == [
        "  error: video.mp4: empty",
        "  error: lone.mp4: empty",
    ]


def test_a_warning_names_the_dataset_and_a_note_is_none() -> None:
    warnings = ["mend it: playmill resync FILE --window-ms 9", "note: it is allowed for"]
    out = io.StringIO()
    print_rows([published("new") | {"warnings": warnings}], Console(file=out))
    assert out.getvalue().splitlines()[1:] == [
        "  warning: mend it: playmill resync /d/data.h5 --window-ms 9",
        "  note: it is allowed for",
    ]


def test_more_than_one_recording_is_summed_up() -> None:
    failed = published("b") | {"state": "failed", "error": "no video"}
    out = io.StringIO()
    print_outline([published("a"), failed, published("c")], Console(file=out))
    assert out.getvalue().splitlines()[-1] == "3 in all: 2 published, 1 failed"
    alone = io.StringIO()
    print_outline([published("a")], Console(file=alone))
    assert "in all" not in alone.getvalue()
