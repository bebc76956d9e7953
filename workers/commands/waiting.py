"""What commands share that begin work, wait for it, and say what became of it."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import redis
import typer
from rich.console import Console

from playmill.jobs import JobFacts
from playmill.store import Store
from tasks.advance import advance
from tasks.settings import Settings
from tasks.waiting import Waiting
from workers.outcome import Row, print_json, print_outline
from workers.progress import ProgressView, names_of
from workers.unreadable import Unreadable

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Recordings, video files, or folders to search."),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON list to stdout.")]

WAIT_S = 2.0
"""Pause between two looks at the store while waiting."""


def shown_names(store: Store, job_ids: Sequence[str]) -> dict[str, str]:
    """Return short names of recordings by job; the id of one that cannot be read."""
    places: dict[str, str] = {}
    for job_id in job_ids:
        with suppress(OSError, ValueError):  # it cannot be read
            place = store.request(job_id).recording
            places[job_id] = f"{place.root}/{place.path}"
    return {job_id: job_id[:12] for job_id in job_ids} | names_of(places)


def wait_for(
    store: Store,
    settings: Settings,
    job_ids: Sequence[str],
    console: Console,
    *,
    deadline: float = math.inf,
) -> None:
    """Show progress until the jobs have ended, or until `deadline` by the monotonic clock."""
    still_open = list(job_ids)
    with ProgressView(shown_names(store, job_ids), console) as view:
        unreadable = Unreadable(view.say)
        while still_open:
            # Anyone may reconcile; a Redis that is away is waited for.
            with suppress(redis.RedisError):
                facts: list[JobFacts] = []
                advance(store, still_open, tell=facts.append, tell_unreadable=unreadable.note)
                view.update(facts)
                show_waiting(view, store, facts)
                still_open = unreadable.still_open(still_open, facts)
            if time.monotonic() > deadline:
                break
            time.sleep(settings.reconcile_s if len(still_open) > 100 else WAIT_S)


def show_waiting(view: ProgressView, store: Store, known: Iterable[JobFacts]) -> None:
    """Say what keeps open jobs from going on."""
    waiting = Waiting(store)
    for facts in known:
        waiting.note(facts)
    view.hint(waiting.lines())


def hint(waiting: Waiting, console: Console) -> None:
    """Print what keeps jobs from going on."""
    for line in waiting.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat TERM and HUP as interrupts for a block, so that they stop what was started."""

    def interrupt(_: int, __: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def leaving_it_to_workers(console: Console) -> Iterator[None]:
    """Say, when a block that only waits is interrupted, that the work goes on all the same."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(
            "no longer waiting; the work goes on: `playmill watch` shows it, and `playmill cancel"
            " JOB` ends a job (`playmill status` lists them)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None


def keep_weights(store: Store, weights: Path | None) -> str | None:
    """Put a file of weights on the store; return its digest."""
    return None if weights is None else store.add_weights(weights)


def finish_with(
    rows: Iterable[Row],
    *,
    as_json: bool,
    console: Console,
    interrupted: bool = False,
    there: Container[str] = (),
) -> None:
    """Print the rows and end with the status that they call for.

    Args:
        there: jobs whose datasets were there before the command; people are told so.
    """
    states = print_json(rows) if as_json else print_outline(rows, Console(), there=there)
    if interrupted:
        console.print("interrupted; the same command goes on where this one stopped")
        raise typer.Exit(130)
    if states["failed"] or states["cancelled"] or states[None]:
        raise typer.Exit(1)
