"""Compare what is done with what should be, and send what is missing.

Any number of processes may do this at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from playmill.jobs import Fail, JobFacts, Step, remaining
from playmill.store import Store
from tasks import broker
from tasks.fit import Fitness
from tasks.limits import time_limit_s
from tasks.queues import queue_of
from tasks.share import Share

log = logging.getLogger(__name__)

Line = tuple[str, str]
"""A queue, and one of the verbs that wait in it."""


def advance(
    store: Store, job_ids: Iterable[str], *, tell: Callable[[JobFacts], object] = lambda _: None
) -> set[Line]:
    """Do what `remaining()` says for these jobs, sharing the queues fairly between them.

    Holds no more at a time than one job's facts and what the queues have room for.

    Args:
        tell: called with what is known of each job.
    Returns:
        the queues that will want more before long, with the verb that they want.
    Raises:
        redis.RedisError: Redis cannot be asked, or sent to.
    """
    seen, fitness = broker.look(), Fitness(store)
    shares: dict[Line, Share[tuple[Step, float | None]]] = {}
    wanting = set()
    for order, job_id in enumerate(job_ids):
        try:
            facts = store.facts(
                job_id, running=seen.running, waiting=seen.waiting_for(store.needs(job_id))
            )
            facts = replace(facts, refused=fitness.refused(facts))
        except (ValueError, KeyError, TypeError, OSError) as error:
            # Written by another version, or not by us, or a disk that does not let us: it must
            # not stop the other jobs.
            log.error("job %s cannot be read: %s", job_id[:12], error)
            continue
        tell(facts)
        if facts.plan is None:
            wanting.add(_line(facts, "extract"))
        line = _line(facts, facts.next_verb)
        share = shares.setdefault(line, Share(seen.room(*line)))
        # One more than there is room for, so that it is known that something was left.
        actions = remaining(facts, now_s=time.time(), most=share.room + 1)
        for turn, action in enumerate(actions):
            if isinstance(action, Fail):
                try:
                    fail(store, action)
                except OSError as error:
                    log.error("job %s cannot be declared failed: %s", job_id[:12], error)
                break
            entry = (action.step, time_limit_s(facts, action.step))
            if not share.offer(entry, turn=turn, order=order):
                break
    # What finds no room waits on the store, where it costs nothing.
    for (queue, _), share in shares.items():
        for step, limit_s in share.picked():
            broker.send(step, queue, time_limit_s=limit_s)
    return wanting | {line for line, share in shares.items() if share.left_over}


def _line(facts: JobFacts, verb: str) -> Line:
    needs = facts.needs
    return queue_of(verb, device=needs.device_class, urgent=needs.urgent), verb


def fail(store: Store, action: Fail) -> None:
    """Declare a job failed."""
    if store.end(action.job_id, "failed", {"reason": action.reason, "failed_s": time.time()}):
        log.error("job %s failed: %s", action.job_id[:12], action.reason)


def open_jobs(store: Store) -> list[str]:
    """Return the jobs that have not ended."""
    return [job_id for job_id in store.job_ids() if store.is_open(job_id)]
