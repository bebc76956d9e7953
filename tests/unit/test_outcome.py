"""Outcome: what people are told of each recording."""

from __future__ import annotations

import io

from rich.console import Console

from workers.outcome import KEYS, Row, print_rows


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
