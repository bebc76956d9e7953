"""reconcile(): compare what is done with what should be, for every open job, and mend it."""

from __future__ import annotations

from collections.abc import Callable

from playmill.errors import JobUnreadable
from playmill.jobs import JobFacts
from playmill.store import Store
from tasks import broker
from tasks.advance import Line, advance, log_unreadable, open_jobs
from tasks.app import app, settings
from tasks.fit import seen_store


def reconcile(
    store: Store,
    *,
    tell: Callable[[JobFacts], object] = lambda _: None,
    tell_unreadable: Callable[[JobUnreadable], object] = log_unreadable,
) -> tuple[int, set[Line]]:
    """Advance every job that has not ended; return how many there are, and `advance`'s answer."""
    job_ids = open_jobs(store)
    identity = seen_store(store)
    if identity is not None:
        broker.note_store(identity)
    return len(job_ids), advance(store, job_ids, tell=tell, tell_unreadable=tell_unreadable)


@app.task(name="playmill.reconcile")
def reconcile_task() -> None:
    """Reconcile by message, for schedulers other than `playmill beat`."""
    reconcile(Store(settings().store))
