"""The watchdog of a worker: one that is connected but takes no work ends, to be started again.

A connection to Redis can look alive and deliver nothing; only the queue's length tells.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import redis
from celery.worker import state

from tasks import broker

log = logging.getLogger(__name__)

IDLE_S = 180.0
"""A worker that takes nothing for this long, while something waits all the time, is broken."""
LOOK_S = 15.0


def watch(queue: str, *, idle_s: float = IDLE_S, look_s: float = LOOK_S) -> None:
    """Watch this worker in the background; end it when it is idle while `queue` is not empty."""
    threading.Thread(target=_watch, args=(queue, idle_s, look_s), daemon=True).start()


def _watch(queue: str, idle_s: float, look_s: float) -> None:
    busy_s = time.monotonic()
    while True:
        time.sleep(look_s)
        if state.reserved_requests or not _waiting(queue):
            busy_s = time.monotonic()
        elif time.monotonic() - busy_s > idle_s:
            log.error("work waits in %s, but none has come for %.0f s: ending", queue, idle_s)
            # Not a polite stop: what has gone wrong may be what a polite stop needs. The pool's
            # children end with their parent; a supervisor starts the worker again.
            os.kill(os.getpid(), signal.SIGKILL)


def _waiting(queue: str) -> bool:
    """Say whether something waits; an unreachable Redis is waited for, not died of."""
    try:
        return broker.length(queue) > 0
    except redis.RedisError:
        return False
