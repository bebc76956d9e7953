"""reconcile(): advance every open job, from beat or by hand."""

from __future__ import annotations

from playmill.store import Store
from tasks.advance import reconcile as reconcile_store
from tasks.app import app, settings


@app.task(name="playmill.reconcile")
def reconcile() -> None:
    """Compare what is done with what should be, and mend it."""
    reconcile_store(Store(settings().store))
