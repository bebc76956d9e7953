"""Presence: which workers listen, and to which queues. Known to Redis alone, for half a minute.

Nothing that must be right relies on it: it says why work waits, and to whom it need not be sent.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Listener:
    """A worker that listens."""

    queues: frozenset[str]
    store: str | None
    """Id of the store that it sees; None: it sees none."""


def say(queues: Iterable[str], *, store: str | None) -> None:
    """Say that this worker listens to these queues, and which store it sees."""
    key, value = _WORKER + _worker, json.dumps({"queues": list(queues), "store": store})
    broker.client().set(key, value, px=round(PRESENT_S * 1000))


def leave() -> None:
    """Say that this worker listens no more."""
    broker.client().delete(_WORKER + _worker)


def listeners() -> Mapping[str, Listener]:
    """Return the workers that listen.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    keys = list(broker.client().scan_iter(match=f"{_WORKER}*", count=1000))
    values = broker.client().mget(keys) if keys else []
    return {
        key.decode().removeprefix(_WORKER): _listener(json.loads(value))
        for key, value in zip(keys, values, strict=True)
        if value is not None
    }


def _listener(value: dict[str, Any]) -> Listener:
    return Listener(frozenset(value["queues"]), value["store"])
