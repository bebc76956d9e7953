"""`playmill status` and `playmill watch`: what is known of jobs. They change nothing."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console

from playmill.store import Store
from tasks import broker
from tasks.advance import open_jobs
from tasks.waiting import Waiting
from workers.commands.connecting import LocalDatasets, connect, find_jobs, look
from workers.commands.waiting import WAIT_S, Json, hint, show_waiting, shown_names
from workers.outcome import outcomes, print_json, print_outline
from workers.progress import ProgressView
from workers.unreadable import Unreadable


def status(
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]")] = None,
    datasets: LocalDatasets = None,
    as_json: Json = False,
) -> None:
    """Show jobs: their states, progress, and why some failed."""
    settings, store = look(datasets)
    job_ids = find_jobs(store, jobs) if jobs else _by_age(store)
    if not job_ids:
        print(f"no jobs on the store at {store.root}", file=sys.stderr)
    # Nobody listens to a folder that `playmill run` worked in.
    waiting = Waiting(store) if datasets is None else None
    rows = outcomes(store, job_ids, settings, waiting=waiting)
    if as_json:
        states = print_json(rows)
    else:
        states = print_outline(rows, Console(), most=sys.maxsize, ids=True)
        if waiting is not None:
            hint(waiting, Console())
    if waiting is not None and waiting.broken and not waiting.lines():
        # No open job says it.
        print(f"playmill: {waiting.broken}", file=sys.stderr)
    if states[None]:
        raise typer.Exit(1)


def watch() -> None:
    """Show the jobs that are open, until none is; an interrupt ends the watching alone."""
    _, store = connect(need_broker=False)
    console = Console(stderr=True)
    job_ids = open_jobs(store)
    if not job_ids:
        print("no open jobs")
        return
    view = ProgressView(shown_names(store, job_ids), console, with_reasons=True)
    with suppress(KeyboardInterrupt), view:
        unreadable = Unreadable(view.say)
        while job_ids:
            known = unreadable.look(store, job_ids, running=broker.running_or_none())
            view.update(known)
            show_waiting(view, store, known)
            job_ids = unreadable.still_open(job_ids, known)
            time.sleep(WAIT_S)
        if unreadable:
            raise typer.Exit(1)


def _by_age(store: Store) -> list[str]:
    times = {}
    for job_id in store.job_ids():
        try:
            times[job_id] = store.request(job_id).submitted_ns
        except FileNotFoundError:  # a folder without a request is no job
            continue
        except (OSError, ValueError):  # it comes first, with the reason
            times[job_id] = 0
    return sorted(times, key=lambda job_id: times[job_id])
