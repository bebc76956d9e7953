"""The clock: sends `reconcile` every few seconds. `celery -A workers.beat beat`."""

from __future__ import annotations

from tasks.app import app, settings
from workers import process

__all__ = ["app", "process"]

app.conf.beat_schedule = {
    "reconcile": {
        "task": "playmill.reconcile",
        "schedule": settings().reconcile_s,
        # A reconciliation that waited for a whole period is overtaken by the next one.
        "options": {"expires": settings().reconcile_s},
    }
}
