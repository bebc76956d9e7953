"""The watchdog of a worker: one that is connected but takes no work ends, to be started again.

A connection to Redis can look alive and deliver nothing: only the queue's length tells. And an
acknowledgement that could not be sent (Redis was away just then) is logged by kombu and forgotten:
its message takes one of the places for messages in hand for ever, and there is only one.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
from celery.worker import state

from tasks import broker

log = logging.getLogger(__name__)

IDLE_S = 180.0
"""A worker that takes nothing for this long, while something waits all the time, is broken."""
STUCK_S = 6.0
"""So is one whose places for messages are taken for this long, by none that it has."""
LOOK_S = 2.0


def watch(
    queues: Sequence[str],
    consumer: Any,
    *,
    idle_s: float = IDLE_S,
    stuck_s: float = STUCK_S,
    look_s: float = LOOK_S,
) -> None:
    """Watch this worker in the background; end it when it is idle while `queues` are not empty.

    Args:
        consumer: the worker's celery.worker.consumer.Consumer.
    """
    args = (queues, consumer, idle_s, stuck_s, look_s)
    threading.Thread(target=_watch, args=args, daemon=True).start()


def _watch(
    queues: Sequence[str], consumer: Any, idle_s: float, stuck_s: float, look_s: float
) -> None:
    busy_s = free_s = time.monotonic()
    while True:
        time.sleep(look_s)
        now_s = time.monotonic()
        if state.reserved_requests:
            busy_s = free_s = now_s
            continue
        if _can_take(consumer):
            free_s = now_s
        if not _waiting(queues):
            busy_s = now_s
        if now_s - free_s > stuck_s:
            _end(
                "this worker could not tell Redis that its last task has ended, and is given no"
                " other until it has"
            )
        if now_s - busy_s > idle_s:
            _end(f"work waits in {queues[-1]}, but none has come to this worker for {idle_s:.0f} s")


def _end(reason: str) -> None:
    log.error("%s: it ends, and is to be started again", reason)
    # Not a polite stop: what has gone wrong may be what a polite stop needs. The pool's
    # children end with their parent; a supervisor starts the worker again.
    os.kill(os.getpid(), signal.SIGKILL)


def _can_take(consumer: Any) -> bool:
    """Say whether the worker may fetch another message, as far as is known."""
    try:
        return bool(consumer.task_consumer.channel.qos.can_consume())
    except AttributeError:  # it is connecting
        return True


def _waiting(queues: Sequence[str]) -> bool:
    """Say whether something waits; an unreachable Redis is waited for, not died of."""
    try:
        return any(broker.length(queue) for queue in queues)
    except redis.RedisError:
        return False
