"""What became of each recording: the rows of `--json`, and the lines for people."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from rich.text import Text

from playmill.errors import JobUnreadable
from playmill.jobs import OPEN_STATES, state_of
from playmill.phrases import labelled, plural, shown_path
from playmill.recording.lone_logs import LoneLog
from playmill.store import Store
from tasks import broker
from tasks.settings import Settings
from tasks.waiting import Waiting

KEYS = (
    *("recording", "session_id", "job_id", "state", "dataset", "frames", "chunks", "chunks_done"),
    *("events", "unassigned_events", "rejected_lines", "warnings", "error", "waiting", "skipped"),
)
"""Keys of one row, always all there, null where unknown."""

UNREADABLE = "unreadable"
"""Shown in place of a state of which nothing is known."""
SHOWN_DIGITS = 12
"""Of a job's id, for people: none of a million shares them."""
MAX_ROWS = 20
"""Recordings that are listed when nothing is wrong with them; the rest is counted."""

Row = dict[str, Any]


def outcomes(
    store: Store, job_ids: Iterable[str], settings: Settings, *, waiting: Waiting | None = None
) -> Iterator[Row]:
    """Yield a row for each job.

    Args:
        waiting: says what an open job waits for.
    """
    running = broker.running_or_none()
    for job_id in job_ids:
        yield outcome(store, job_id, settings, running=running, waiting=waiting)


def outcome(
    store: Store,
    job_id: str,
    settings: Settings,
    *,
    running: frozenset[str] = frozenset(),
    waiting: Waiting | None = None,
) -> Row:
    """Return what is known of one job; its state is null where it cannot be read."""
    try:
        with store.reading(job_id):
            return _outcome(store, job_id, settings, running, waiting)
    except JobUnreadable as error:
        return dict.fromkeys(KEYS) | {"job_id": job_id, "warnings": [], "error": str(error)}


def _outcome(
    store: Store,
    job_id: str,
    settings: Settings,
    running: frozenset[str],
    waiting: Waiting | None,
) -> Row:
    request = store.request(job_id)
    facts = store.facts(job_id, running=running)
    row: Row = dict.fromkeys(KEYS)
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
    if waiting is not None:
        row["waiting"] = waiting.note(facts)
    if row["state"] == "cancelled":
        row["error"] = (store.ending(job_id, "cancelled") or {}).get("reason")
    published = store.ending(job_id, "published")
    if published is not None:
        row |= {name: published[name] for name in published.keys() & set(KEYS)}
        row["dataset"] = str(settings.datasets / published["dataset"])
    return row


def skipped(lone: LoneLog) -> Row:
    """Return the row of a log without a video, of which nothing is made."""
    return dict.fromkeys(KEYS) | {
        "recording": str(lone.path.absolute()),
        "state": "skipped",
        "warnings": [],
        "skipped": lone.why,
    }


def print_json(rows: Iterable[Row]) -> Counter[str | None]:
    """Print a JSON list, a row a line, as the rows come; return how many are in each state."""
    states: Counter[str | None] = Counter()
    before = "["
    for row in rows:
        states[row["state"]] += 1
        sys.stdout.write(before + json.dumps(row))
        before = ",\n "
    print("]" if states else "[]")
    return states


def print_outline(
    rows: Iterable[Row],
    console: Console,
    *,
    most: int = MAX_ROWS,
    ids: bool = False,
    there: Container[str] = (),
) -> Counter[str | None]:
    """Print the first rows and all failures, and count the rest; return the count of each state.

    Args:
        ids: begin each with as much of the job's id as tells it from others.
        there: jobs whose datasets were there before.
    """
    states: Counter[str | None] = Counter()

    def worth_a_line() -> Iterator[Row]:
        for row in rows:
            states[row["state"]] += 1
            if states.total() <= most or row["error"]:
                yield row

    print_rows(worth_a_line(), console, ids=ids, there=there)
    if states.total() > 1:
        counts = ", ".join(f"{n} {state or UNREADABLE}" for state, n in states.most_common())
        console.print(f"{states.total():,} in all: {counts}", highlight=False)
    return states


def print_rows(
    rows: Iterable[Row], console: Console, *, ids: bool = False, there: Container[str] = ()
) -> None:
    """Print a line for each recording, and beneath it what a person should know."""
    for row in rows:
        state = row["state"] or UNREADABLE
        color = {"published": "green", "failed": "red", UNREADABLE: "red"}.get(state, "yellow")
        line = Text.assemble((f"{state:14}", color), shown_path(row["recording"] or row["job_id"]))
        if ids:
            line = Text.assemble(f"{row['job_id'][:SHOWN_DIGITS]}  ", line)
        if row["frames"] is not None:
            line.append(f": {plural(row['frames'], 'frame')}, {plural(row['events'], 'event')}")
            line.append(
                f" ({row['unassigned_events']:,} unassigned) -> {shown_path(row['dataset'])}"
            )
            if row["job_id"] in there:
                line.append(", which was there already")
        elif row["state"] in OPEN_STATES and row["chunks"]:
            line.append(f": {row['chunks_done']} of {plural(row['chunks'], 'chunk')}")
        elif row["skipped"]:
            line.append(f": {row['skipped']}")
        # Never folded: a path must be there to be copied.
        console.print(line, soft_wrap=True, highlight=False)
        for text in _notes(row):
            console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)


def _notes(row: Row) -> Iterator[str]:
    """Yield the lines beneath a row: files as seen from the recording, and the dataset's name."""
    recording = Path(row["recording"] or "")
    if row["error"]:
        # Where the recording is a file, its folder is what it shares with the log beside it.
        folder = recording.parent if recording.suffix and not recording.is_dir() else recording
        yield f"error: {row['error'].replace(f'{folder}/', '')}"
    for warning in row["warnings"]:
        text = labelled(warning)
        if row["dataset"]:
            text = text.replace("resync FILE", f"resync {quote(shown_path(row['dataset']))}")
        yield text
