"""`playmill submit` and `playmill nightly`: new work for the workers of PLAYMILL_BROKER_URL."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Annotated

import typer
from rich.console import Console

from playmill.command.options import Wanted, takes_config
from playmill.errors import UsageError
from playmill.recording.discovery import discover
from playmill.recording.lone_logs import LoneLog
from playmill.store import Store
from tasks.nightly import begin, finish, go_on, report_so_far
from tasks.reconcile import reconcile as reconcile_store
from tasks.settings import Settings
from tasks.submit import make_request, submit_all
from tasks.waiting import Waiting
from workers.commands.connecting import broker_errors, connect
from workers.commands.waiting import (
    Json,
    Paths,
    finish_with,
    hint,
    interruptible,
    keep_weights,
    leaving_it_to_workers,
    wait_for,
)
from workers.outcome import outcome, outcomes, skipped


@takes_config(auto_device=lambda: Settings.from_env().device)
def submit(
    paths: Paths,
    wanted: Wanted,
    urgent: Annotated[
        bool, typer.Option("--urgent", help="Before all that is not, also if submitted already.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all have ended.")] = False,
    as_json: Json = False,
) -> None:
    """Submit recordings to the workers of PLAYMILL_BROKER_URL."""
    settings, store = connect()
    config = replace(wanted.config, weights_digest=keep_weights(store, wanted.weights))
    for path in paths:
        # Wrong usage is found before anything is submitted.
        next(discover([path], skip=[settings.datasets]), None)
    lone: list[LoneLog] = []
    there: set[str] = set()
    begun_ns = time.time_ns()

    def submitted() -> Iterator[str]:
        requests = (
            make_request(path, config, settings.roots, urgent=urgent, submission_ns=begun_ns)
            for path in discover(paths, skip=[settings.datasets], tell=lone.append)
        )
        for request in submit_all(store, requests, datasets=settings.datasets):
            if not store.is_open(request.job_id):
                there.add(request.job_id)
            yield request.job_id

    console = Console(stderr=True)
    if not wait:
        # One recording at a time: there may be more of them than is good to hold.
        rows = (outcome(store, job_id, settings) for job_id in submitted())
        # The list of lone logs is full once the recordings are through.
        more = (skipped(log) for log in lone)
        with _sending_afterwards(store, settings, console):
            finish_with(chain(rows, more), as_json=as_json, console=console, there=there)
        return
    with _sending_afterwards(store, settings, console):
        job_ids = list(submitted())
    with interruptible(), leaving_it_to_workers(console):
        wait_for(store, settings, job_ids, console)
    ended = chain(outcomes(store, job_ids, settings), map(skipped, lone))
    finish_with(ended, as_json=as_json, console=console, there=there)


@contextmanager
def _sending_afterwards(store: Store, settings: Settings, console: Console) -> Iterator[None]:
    """Send what the block has submitted, however it ends, and say what it will wait for."""
    try:
        yield
    finally:
        with broker_errors():
            waiting = Waiting(store)
            reconcile_store(store, tell=waiting.note)
            hint(waiting, console)


def nightly(
    once: Annotated[bool, typer.Option("--once", help="Now, whatever the schedule says.")] = False,
    within: Annotated[
        float, typer.Option(min=0, help="Hours to wait; what has not ended then counts as failed.")
    ] = 24.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Submit what is new in the inboxes, wait for it, and report: what beat does every night."""
    if not once:
        raise UsageError("--once runs it now; beat runs it at the times of PLAYMILL_NIGHTLY")
    settings, store = connect()
    now_s = time.time()
    go_on(store, settings, now_s=now_s)
    night = begin(store, settings, nominal_s=int(now_s), now_s=now_s)
    job_ids = [request.job_id for request in night.requests]
    ended = partial(finish, store, night, datasets=settings.datasets)
    deadline = time.monotonic() + 3600 * within
    console = Console(stderr=True)
    with interruptible(), leaving_it_to_workers(console):
        report = ended(now_s=time.time())
        if report is None:
            wait_for(store, settings, job_ids, console, deadline=deadline)
            report = ended(now_s=time.time())
    if report is None:
        # Its jobs go on; whoever looks next writes the report when they have ended.
        report = report_so_far(store, night, settings, now_s=time.time())
    print(json.dumps(report.to_json()) if as_json else report.text().rstrip("\n"))
    if report.troubled or report.rows("open"):
        raise typer.Exit(1)
