"""Compare what is done with what should be, and send what is missing.

Any number of processes may do this at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from itertools import chain, zip_longest

from playmill.jobs import Fail, JobFacts, Send, Step, remaining
from playmill.store import Store
from tasks import broker

log = logging.getLogger(__name__)

BASE_LIMIT_S = 900.0
FRAME_LIMIT_S = 1.0
"""A chunk may take this long a frame: a slow machine is not a hang."""


def advance(store: Store, job_ids: Iterable[str]) -> list[JobFacts]:
    """Do what `remaining()` says for these jobs, sharing the queue fairly between them.

    Returns what was known of each job.
    """
    running, waiting = broker.running(), broker.waiting()
    known = []
    steps: list[list[tuple[Step, float | None]]] = []
    for job_id in job_ids:
        try:
            facts = store.facts(job_id, running=running, waiting=waiting)
        except (ValueError, KeyError, TypeError) as error:
            # Written by another version, or not by us: it must not stop the other jobs.
            log.error("job %s cannot be read: %s", job_id[:12], error)
            continue
        known.append(facts)
        sends = []
        for action in remaining(facts, now_s=time.time()):
            if isinstance(action, Fail):
                fail(store, action)
            elif isinstance(action, Send):
                sends.append((action.step, _time_limit_s(facts, action.step)))
        steps.append(sends)
    # What is finished first waits for nobody; the rest waits on the store, where it costs nothing.
    room = {"consolidate": len(steps), **broker.room()}
    for entry in chain.from_iterable(zip_longest(*steps)):
        if entry is not None and room[entry[0].verb] > 0:
            step, time_limit_s = entry
            room[step.verb] -= 1
            broker.send(step, time_limit_s=time_limit_s)
    return known


def fail(store: Store, action: Fail) -> None:
    """Declare a job failed."""
    if store.end(action.job_id, "failed", {"reason": action.reason, "failed_s": time.time()}):
        log.error("job %s failed: %s", action.job_id[:12], action.reason)


def _time_limit_s(facts: JobFacts, step: Step) -> float | None:
    if step.chunk_index is None or facts.plan is None:
        return None
    return BASE_LIMIT_S + FRAME_LIMIT_S * facts.plan.chunk_frames[step.chunk_index]


def open_jobs(store: Store) -> list[str]:
    """Return the jobs that have not ended."""
    endings = ("published", "failed", "cancelled")
    return [
        job_id
        for job_id in store.job_ids()
        if not any((store.job_folder(job_id) / f"{name}.json").exists() for name in endings)
    ]
