"""What became of each recording: the rows of `--json`, and the lines for people."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from playmill.jobs import OPEN_STATES, state_of
from playmill.store import Store
from tasks import broker
from tasks.settings import Settings

KEYS = (
    *("recording", "session_id", "job_id", "state", "dataset", "frames", "chunks", "chunks_done"),
    *("events", "unassigned_events", "rejected_lines", "warnings", "error"),
)
"""Keys of one row, always all there, null where unknown."""


def outcomes(store: Store, job_ids: Iterable[str], settings: Settings) -> list[dict[str, Any]]:
    """Return a row for each job."""
    running = broker.running_or_none()
    return [_outcome(store, job_id, settings, running) for job_id in job_ids]


def _outcome(
    store: Store, job_id: str, settings: Settings, running: frozenset[str]
) -> dict[str, Any]:
    request = store.request(job_id)
    facts = store.facts(job_id, running=running)
    row: dict[str, Any] = dict.fromkeys(KEYS)
    folder = settings.roots.folders.get(request.recording.root)
    row["recording"] = str(folder / request.recording.path if folder else request.recording)
    row["session_id"] = request.session_id
    row["job_id"] = job_id
    row["state"] = state_of(facts)
    row["warnings"] = []
    if facts.plan is not None:
        row["session_id"] = facts.plan.session_id
        row["chunks"] = len(facts.plan.chunk_frames)
        row["chunks_done"] = len(facts.committed)
        row["warnings"] = list(facts.plan.warnings)
    row["error"] = facts.failed
    if row["state"] == "cancelled":
        row["error"] = (store.ending(job_id, "cancelled") or {}).get("reason")
    published = store.ending(job_id, "published")
    if published is not None:
        row |= {name: published[name] for name in published.keys() & set(KEYS)}
        row["dataset"] = str(settings.datasets / published["dataset"])
    return row


def print_rows(rows: Iterable[dict[str, Any]], console: Console) -> None:
    """Print a line for each recording, and beneath it what a person should know."""
    for row in rows:
        color = {"published": "green", "failed": "red"}.get(row["state"], "yellow")
        line = Text.assemble((f"{row['state']:13}", color), _shown(row["recording"]))
        if row["frames"] is not None:
            line.append(f": {row['frames']} frames, {row['events']} events")
            line.append(f" ({row['unassigned_events']} unassigned) -> {_shown(row['dataset'])}")
        elif row["state"] in OPEN_STATES and row["chunks"]:
            line.append(f": {row['chunks_done']} of {row['chunks']} chunks")
        # Never folded: a path must be there to be copied.
        console.print(line, soft_wrap=True, highlight=False)
        notes = [("error", row["error"])] if row["error"] else []
        for kind, text in [*notes, *(("warning", warning) for warning in row["warnings"])]:
            console.print(f"  {kind}: {text}", markup=False, highlight=False, soft_wrap=True)


def _shown(value: object) -> str:
    """Write a value for people: a path as seen from here where that is shorter."""
    text = str(value)
    return min(text, os.path.relpath(text), key=len) if os.path.isabs(text) else text
