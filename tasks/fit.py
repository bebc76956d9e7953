"""Fit: a worker that cannot do a step says so, and leaves it to one that can.

What it lacks (a GPU, weights, a package, a root) another may have; so no try is counted, the
refusal is noted on the store, and the step goes on waiting.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from playmill.errors import DecoderUnavailable, EncoderUnavailable, PlaymillError, UsageError
from playmill.jobs import JobFacts, Refusal
from playmill.store import Store
from playmill.store.refusals import REFUSED_S, anybody_refuses, forget, refusals, refuse
from tasks import presence
from tasks.queues import queue_of

log = logging.getLogger(__name__)

PAUSE_S = 0.5
"""Before a worker takes the next message after one that it has refused: others may be quicker."""

T = TypeVar("T")

_refused: dict[str, float] = {}
"""When this process refused each kind of work."""


class Misfit(PlaymillError):
    """This worker cannot do the step, another may; the argument says why not."""


@contextlib.contextmanager
def needed_here() -> Iterator[None]:
    """Turn what this worker lacks into a Misfit."""
    try:
        yield
    except (DecoderUnavailable, EncoderUnavailable, UsageError, ImportError) as error:
        raise Misfit(str(error)) from error


def has_refused(fit: str) -> bool:
    """Say whether this worker has refused such work a short while ago."""
    return time.monotonic() < _refused.get(fit, -REFUSED_S) + REFUSED_S


def say_no(store: Store, fit: str, error: Misfit, *, place: Mapping[str, object]) -> None:
    """Refuse a kind of work: in the log, and on the store, where `status` and `advance` look.

    Args:
        place: fields for the line in the log.
    """
    _refused[fit] = time.monotonic()
    refusal = Refusal(presence.this_worker(), str(error))
    log.error("this worker cannot do it, and leaves it to others: %s", error, extra=place)
    try:
        refuse(store.root, fit, refusal, now_s=time.time())
    except OSError as failure:
        log.error("the refusal cannot be noted: %s", failure)


def begin_anew(store: Store) -> None:
    """Forget what a worker of this worker's name, which ran before it, has refused."""
    forget(store.root, worker=presence.this_worker())


def seen_store(store: Store) -> str | None:
    """Return the id of the store that this worker sees; None: none that can be read."""
    try:
        identity = store.identity()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if identity is None else identity.store


def is_of(store: Store, store_id: str | None) -> bool:
    """Say whether what this worker sees is the store that a message comes from.

    Args:
        store_id: None in messages that name none: then any store with jobs will do.
    """
    if store_id is not None:
        return seen_store(store) == store_id
    try:
        return store.has_jobs()
    except OSError:
        return False


class Fitness:
    """Who refuses what at one moment: asked for many jobs in a row, and read once for each kind."""

    def __init__(self, store: Store) -> None:
        self._root = store.root
        self._known: dict[str, list[Refusal]] = {}
        self._listeners: Mapping[str, frozenset[str]] | None = None
        self._store_id = seen_store(store)
        self._any = any(self._read(lambda: [anybody_refuses(self._root)]))

    def refusals(self, facts: JobFacts) -> list[Refusal]:
        """Return who refuses the next step of a job."""
        if not self._any:
            return []
        fit = facts.fit
        if fit not in self._known:
            self._known[fit] = self._read(lambda: refusals(self._root, fit, now_s=time.time()))
        return self._known[fit]

    @staticmethod
    def _read(look: Callable[[], list[T]]) -> list[T]:
        """Return what is noted, or nothing: a note that cannot be read stops no work."""
        try:
            return look()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("refusals cannot be read: %s", error)
            return []

    def refused(self, facts: JobFacts) -> tuple[Refusal, ...]:
        """Return what everybody who listens says against a job's next step; (): somebody may.

        Raises:
            redis.RedisError: Redis cannot be asked who listens.
        """
        found = {refusal.worker: refusal for refusal in self.refusals(facts)}
        if not found:
            return ()
        if self._listeners is None:
            self._listeners = {
                worker: listener.queues
                for worker, listener in presence.listeners().items()
                if listener.store == self._store_id
            }
        queue = queue_of(facts.next_verb, device=facts.needs.device_class, urgent=False)
        able = [worker for worker, queues in self._listeners.items() if queue in queues]
        if not able or set(able) - set(found):
            return ()
        return tuple(found[worker] for worker in able)
