"""What every worker process does first: logging, and loading what its tasks will need."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Sequence
from typing import Any

import redis
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.signals import setup_logging, worker_process_init, worker_ready, worker_shutdown

from playmill.store import Store
from tasks import fit, presence
from tasks.app import app as app
from tasks.app import settings
from tasks.settings import armed_failpoints
from workers import logs, watchdog

log = logging.getLogger(__name__)

# A container's only user may be root; and that Celery's default changes is no news to an operator.
for _category in (SecurityWarning, CPendingDeprecationWarning):
    warnings.filterwarnings("ignore", category=_category)

HEAVY = {"gpu": "playmill.extraction", "cpu": "playmill.publishing.consolidation"}
"""The module behind each queue's tasks: importing it takes seconds (torch) in each process."""


@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    logs.configure()


@worker_ready.connect
def _watch(sender: Any, **_: Any) -> None:
    queues = list(app.amqp.queues.consume_from)
    _introduce(queues)
    with contextlib.suppress(OSError):
        fit.begin_anew(Store(settings().store))
    threading.Thread(target=_say, args=(queues,), name="presence", daemon=True).start()
    watchdog.watch(queues, sender)


def _introduce(queues: Sequence[str]) -> None:
    """Log what this worker does, and where: Celery's own page names none of it."""
    chosen = settings()
    device = "cuda" if any("cuda" in queue for queue in queues) else "cpu"
    log.info(
        "worker: queues %s, device %s, store %s, datasets %s, broker %s",
        " and ".join(queues),
        device,
        chosen.store,
        chosen.datasets,
        chosen.shown_broker_url,
    )


def _say(queues: Sequence[str]) -> None:
    while True:
        with contextlib.suppress(redis.RedisError):
            presence.say(queues, store=fit.seen_store(Store(settings().store)))
        time.sleep(presence.SAY_S)


@worker_shutdown.connect
def _leave(**_: Any) -> None:
    with contextlib.suppress(redis.RedisError):
        presence.leave()


@worker_process_init.connect
def _belong(**_: Any) -> None:
    presence.belong_to(os.getppid())


def _kind() -> str:
    """Return "gpu" or "cpu": which worker module this process serves."""
    return str(app.conf.imports[0].rpartition(".")[2])


@worker_process_init.connect
def _arm_failpoints(**_: Any) -> None:
    for failpoint in armed_failpoints():
        failpoint.arm()


@worker_process_init.connect
def _warm_up(**_: Any) -> None:
    """Import in the background what the first task will need; it waits for the rest of it."""
    kind = _kind()
    threading.Thread(
        target=importlib.import_module, args=(HEAVY[kind],), name="warm-up", daemon=True
    ).start()


def serve(kind: str) -> None:
    """Make the application that of the worker module `workers.<kind>`.

    A spawned child starts as a fresh interpreter: it imports what `imports` names, and so gets
    the handlers of this module too.
    """
    app.conf.imports = (f"workers.{kind}",)
