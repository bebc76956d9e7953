"""One try of one step: leased, counted on the store, its failure recorded there."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis

from playmill import failpoints
from playmill.errors import DatasetError, PlaymillError, RecordingError
from playmill.faults import of_source, told_apart
from playmill.jobs import Step, open_steps
from playmill.store import Store
from tasks import broker, fit
from tasks.advance import go_on
from tasks.app import settings

log = logging.getLogger(__name__)

HOPELESS = (RecordingError, DatasetError)
"""Errors that another try cannot mend, on whichever worker."""
NO_STORE_PAUSE_S = 5.0
"""Before a worker without the store takes its next message: it must not take them all."""
_BROKEN_CUDA = {"AcceleratorError", "CudaError"}


def attempt(step: Step, work: Callable[[Store, str], None], *, store_id: str | None = None) -> None:
    """Do `work(store, attempt)` unless the step is done, is another's, or was tried too often.

    Safe to run twice and at once: a second message finds the lease taken, or the work done.
    Whatever happens, the job is advanced afterwards, so that a message lost in between two
    steps is made up for.

    Args:
        store_id: the store that the step is of; a worker that sees another leaves it to others.
    """
    store = Store(settings().store)
    failpoints.reached(f"{step.verb}:received")
    if not fit.is_of(store, store_id):
        no_store(store, store_id, step.name)
        return
    facts = store.facts(step.job_id)
    if step in open_steps(facts) and fit.has_refused(facts.fit):
        # Somebody else may be about to take it: he gets a moment before we send it again.
        time.sleep(fit.PAUSE_S)
        broker.forget_sent(step)
    elif step in open_steps(facts):
        with broker.leased(step) as lease:
            if lease is None:
                return
            failpoints.reached(f"{step.verb}:leased")
            broker.forget_sent(step)
            # Asked again: the lease may have become free because the step was finished.
            if step in open_steps(store.facts(step.job_id)):
                _try(store, step, lease, work, kind=facts.fit)
    failpoints.reached(f"{step.verb}:released")
    try:
        go_on(store, step.job_id)
    except redis.RedisError as error:
        log.warning("what follows %s is left to the next reconciliation: %s", step.name, error)
    failpoints.reached(f"{step.verb}:advanced")


def no_store(store: Store, store_id: str | None, what: str) -> None:
    """Leave a step to workers that see its store; whoever reconciles there sends it again.

    Nothing is written, not even a refusal: it would look as if this were the store.
    """
    log.error(
        "no store at %s with id %s (found: %s); is the share mounted? left to others: %s",
        store.root,
        store_id or "of any kind",
        fit.seen_store(store) or "none",
        what,
    )
    time.sleep(NO_STORE_PAUSE_S)


def _try(
    store: Store,
    step: Step,
    lease: broker.Lease,
    work: Callable[[Store, str], None],
    *,
    kind: str,
) -> None:
    name = store.attempts(step).begin(who=f"{socket.gethostname()}:{os.getpid()}")
    if name is None:
        return
    lease.on_renewal = lambda: store.attempts(step).touch(name)
    place = {"job": step.job_id, "chunk": step.chunk_index, "action": step.verb}
    failpoints.reached(f"{step.verb}:begun")
    try:
        work(store, name)
        failpoints.reached(f"{step.verb}:worked")
    except fit.Misfit as error:
        # Counted until here, so that a worker that dies of what it loads is counted too.
        store.attempts(step).take_back(name)
        fit.say_no(store, kind, error, place=place)
    except Exception as error:
        own = (store.root, settings().datasets, Path(tempfile.gettempdir()))
        told = of_source(told_apart(error, own), own)
        # What is ours is a sentence for people; of all else a programmer wants to know where.
        trace = error if not isinstance(told, PlaymillError) else None
        words = ("%s failed in attempt %s: %s: %s", step.name, name, type(told).__name__, told)
        log.error(*words, extra=place, exc_info=trace)
        store.attempts(step).fail(name, told, hopeless=isinstance(told, HOPELESS))
        if has_broken_cuda(error):
            # Every later use of the GPU in this process fails too: another one takes its place.
            log.error("this process has lost its GPU: ending, to be replaced")
            lease.release()
            os._exit(1)


def has_broken_cuda(error: BaseException) -> bool:
    """Say whether an error, or what led to it, left this process's CUDA context unusable.

    Told by names, as torch is imported by nobody who only sends messages.
    """
    seen: BaseException | None = error
    while seen is not None:
        kinds = [kind for kind in type(seen).__mro__ if kind.__module__.startswith("torch")]
        names = {kind.__name__ for kind in kinds}
        # What ran out of memory leaves it as it was.
        if "OutOfMemoryError" not in names and "out of memory" not in str(seen):
            # Versions of torch without the first class say it in a RuntimeError's text.
            said = isinstance(seen, RuntimeError) and "CUDA error: " in str(seen)
            if said or names & _BROKEN_CUDA:
                return True
        seen = seen.__cause__ or seen.__context__
    return False
