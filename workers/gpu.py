"""The worker of the gpu queue: extracts features. `celery -A workers.gpu worker -Q gpu`."""

from __future__ import annotations

from typing import Any

from celery.signals import setup_logging, worker_process_init

from tasks.app import app
from workers import logs

__all__ = ["app"]


@setup_logging.connect
def _set_up_logging(loglevel: int = 20, **_: Any) -> None:
    logs.configure(loglevel)


@worker_process_init.connect
def _set_up_child_logging(**_: Any) -> None:
    # A spawned child starts without its parent's handlers.
    logs.configure()
