"""The clock: sends `reconcile` and `nightly`, again and again. `celery -A workers.beat beat`."""

from __future__ import annotations

import time
from typing import Any

from celery.signals import beat_init

from playmill.nightly import note_schedule
from playmill.store import Store
from tasks.app import app, settings
from tasks.nightly import TICK_S, read_config
from workers import process

__all__ = ["app", "process"]


def schedule_of(entry: str, every_s: float) -> dict[str, Any]:
    """Return the entry of a task that is sent every so many seconds."""
    # A message that waited for a whole period is overtaken by the next one.
    return {"task": f"playmill.{entry}", "schedule": every_s, "options": {"expires": every_s}}


app.conf.beat_schedule = {"reconcile": schedule_of("reconcile", settings().reconcile_s)}
_crontab = settings().crontab
if _crontab is not None:
    # Whether a run is due is decided on the store, at each tick: nothing here remembers anything.
    app.conf.beat_schedule["nightly"] = schedule_of("nightly", TICK_S)
    # A configuration that cannot be used ends beat at once, where somebody looks.
    read_config(settings(), Store(settings().store))


@beat_init.connect
def _note_schedule(**_: Any) -> None:
    """Note a new schedule now: the first tick may come just after its first nominal time."""
    if _crontab is not None:
        note_schedule(Store(settings().store), _crontab, now_s=time.time())
