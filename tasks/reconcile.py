"""reconcile(): compare what is done with what should be, for every open job, and mend it."""

from __future__ import annotations

from playmill.store import Store
from tasks.advance import advance, open_jobs
from tasks.app import app, settings


def reconcile(store: Store) -> int:
    """Advance every job that has not ended; return how many there are."""
    job_ids = open_jobs(store)
    advance(store, job_ids)
    return len(job_ids)


@app.task(name="playmill.reconcile")
def reconcile_task() -> None:
    """Reconcile by message, for schedulers other than `playmill beat`."""
    reconcile(Store(settings().store))
