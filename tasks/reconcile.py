"""reconcile(): compare what is done with what should be, for every open job, and mend it."""

from __future__ import annotations

from collections.abc import Callable

from playmill.jobs import JobFacts
from playmill.store import Store
from tasks.advance import Line, advance, open_jobs
from tasks.app import app, settings


def reconcile(
    store: Store, *, tell: Callable[[JobFacts], object] = lambda _: None
) -> tuple[int, set[Line]]:
    """Advance every job that has not ended; return how many there are, and `advance`'s answer."""
    job_ids = open_jobs(store)
    return len(job_ids), advance(store, job_ids, tell=tell)


@app.task(name="playmill.reconcile")
def reconcile_task() -> None:
    """Reconcile by message, for schedulers other than `playmill beat`."""
    reconcile(Store(settings().store))
