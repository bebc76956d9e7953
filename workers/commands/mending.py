"""`playmill retry`, `cancel`, `reconcile` and `gc`: what is done to jobs and their leavings."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from playmill.errors import JobUnreadable
from playmill.phrases import plural
from playmill.store import Store
from playmill.store.identity import check_datasets
from playmill.store.refusals import forget as forget_refusals
from tasks import broker
from tasks.advance import advance
from tasks.collect import collect, drop_parts_of, find_garbage
from tasks.leftovers import STALE_S, find_leftovers, sweep
from tasks.reconcile import reconcile as reconcile_store
from workers.commands.connecting import LocalDatasets, broker_errors, connect, find_jobs, look

Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids, or their beginnings.")]


def retry(jobs: Jobs) -> None:
    """Try failed or cancelled jobs anew."""
    _, store = connect()
    job_ids = find_jobs(store, jobs)

    def again(job_id: str) -> None:
        store.forget_attempts(job_id)
        print(f"{job_id[:12]}  {'goes on' if store.is_open(job_id) else 'is published already'}")

    try:
        _for_each(store, job_ids, again)
    finally:
        with broker_errors():
            advance(store, job_ids, tell_unreadable=lambda _: None)


def cancel(
    jobs: Jobs,
    drop_parts: Annotated[
        bool,
        typer.Option("--drop-parts", help="Delete what they have extracted, if no other needs it."),
    ] = False,
) -> None:
    """Stop jobs; chunks in hand are finished, and parts are kept unless told otherwise."""
    settings, store = connect(need_broker=False)
    if drop_parts:
        check_datasets(store.root, settings.datasets)

    def stop(job_id: str) -> None:
        if store.is_open(job_id):
            store.end(job_id, "cancelled", {"reason": "cancelled by hand"})
            print(f"{job_id[:12]}  is cancelled")
        else:
            print(f"{job_id[:12]}  has ended already")
        if drop_parts:
            print(f"{job_id[:12]}  {drop_parts_of(store, job_id, settings.datasets)}")

    _for_each(store, find_jobs(store, jobs), stop)


def reconcile() -> None:
    """Compare what is done with what should be, and send what is missing, once."""
    _, store = connect()
    unread: list[JobUnreadable] = []
    with broker_errors():
        num_jobs, _ = reconcile_store(store, tell_unreadable=unread.append)
    print(plural(num_jobs, "open job"))
    for error in unread:
        print(error, file=sys.stderr)
    if unread:
        raise typer.Exit(1)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
    datasets: LocalDatasets = None,
) -> None:
    """Delete parts that a published dataset holds or nobody waits for, and what the killed left."""
    settings, store = look(datasets)
    total = 0
    unread: list[JobUnreadable] = []
    found = find_garbage(store, settings.datasets, now_s=time.time(), tell_unreadable=unread.append)
    for garbage in list(found):
        total += garbage.bytes
        why = f"held by {garbage.dataset}" if garbage.dataset else "abandoned"
        print(f"{garbage.parts_key[:12]}  {garbage.bytes / 1e6:.1f} MB  {why}")
        if not dry_run:
            collect(store, garbage)
    leftovers = find_leftovers(
        store, settings.datasets, running=broker.running_or_none(), now_s=time.time()
    )
    for leftover in list(leftovers):
        total += leftover.bytes
        print(f"{leftover.path}  {leftover.bytes / 1e6:.1f} MB  left by somebody who was killed")
        if not dry_run:
            sweep(leftover)
    if not dry_run:
        forget_refusals(store.root, older_s=time.time() - STALE_S)
    print(f"{total / 1e6:.1f} MB {'would be' if dry_run else 'were'} deleted")
    for error in unread:
        print(
            f"{str(error).rstrip('.')}. Until then only parts that a dataset holds are deleted",
            file=sys.stderr,
        )
    if unread:
        raise typer.Exit(1)


def _for_each(store: Store, job_ids: Iterable[str], work: Callable[[str], object]) -> None:
    """Do `work` for each job; one that cannot be read keeps the others from nothing.

    Raises:
        typer.Exit: some could not.
    """
    troubles = 0
    for job_id in job_ids:
        try:
            with store.reading(job_id):
                work(job_id)
        except JobUnreadable as error:
            print(error, file=sys.stderr)
            troubles += 1
    if troubles:
        raise typer.Exit(1)
