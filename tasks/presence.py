"""Presence: which workers listen, and to which queues. Known to Redis alone, for half a minute.

Nothing that must be right relies on it: it says why work waits, and to whom it need not be sent.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping

from tasks import broker
from tasks.app import KEY_PREFIX

PRESENT_S = 20.0
"""A worker that has not said anything for so long is taken for gone."""
SAY_S = 5.0
_WORKER = f"{KEY_PREFIX}worker:"

_worker = f"{socket.gethostname()}:{os.getpid()}"


def this_worker() -> str:
    """Return the name of the worker that this process belongs to: host:pid."""
    return _worker


def belong_to(pid: int) -> None:
    """Make this process a part of the worker with this process number."""
    global _worker
    _worker = f"{socket.gethostname()}:{pid}"


def say(queues: Iterable[str]) -> None:
    """Say that this worker listens to these queues."""
    key, value = _WORKER + _worker, json.dumps(list(queues))
    broker.client().set(key, value, px=round(PRESENT_S * 1000))


def leave() -> None:
    """Say that this worker listens no more."""
    broker.client().delete(_WORKER + _worker)


def listeners() -> Mapping[str, frozenset[str]]:
    """Return the workers that listen, with their queues.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    keys = list(broker.client().scan_iter(match=f"{_WORKER}*", count=1000))
    values = broker.client().mget(keys) if keys else []
    return {
        key.decode().removeprefix(_WORKER): frozenset(json.loads(value))
        for key, value in zip(keys, values, strict=True)
        if value is not None
    }
