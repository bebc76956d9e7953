"""Compare what is done with what should be, and send what is missing.

Any number of processes may do this at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from playmill.errors import JobUnreadable
from playmill.jobs import Fail, JobFacts, Step, open_steps, remaining
from playmill.store import Store
from tasks import broker
from tasks.fit import Fitness, seen_store
from tasks.limits import time_limit_s
from tasks.queues import queue_of
from tasks.share import Share

log = logging.getLogger(__name__)

Line = tuple[str, str]
"""A queue, and one of the verbs that wait in it."""
Entry = tuple[Step, float | None]
"""A step, and its time limit in seconds."""


def log_unreadable(error: JobUnreadable) -> None:
    """Say in the log that a job cannot be read."""
    log.error("%s", error)


def advance(
    store: Store,
    job_ids: Iterable[str],
    *,
    tell: Callable[[JobFacts], object] = lambda _: None,
    tell_unreadable: Callable[[JobUnreadable], object] = log_unreadable,
    seen: broker.Snapshot | None = None,
    low: bool = False,
) -> set[Line]:
    """Do what `remaining()` says for these jobs, sharing the queues fairly between them.

    Holds no more at a time than one job's facts and, for each submission, what the queues have
    room for.

    Args:
        tell: called with what is known of each job.
        tell_unreadable: called for each job that cannot be read; the others go on.
        seen: what Redis knows; None: it is asked.
        low: fill the queues no further than keeps workers going until somebody looks at all jobs.
    Returns:
        the queues that will want more before long, with the verb that they want.
    Raises:
        redis.RedisError: Redis cannot be asked, or sent to.
    """
    seen, store_id = seen or broker.look(), seen_store(store)
    busy = seen.busy()
    shares: dict[Line, Share[Entry]] = {}
    wanting = set()
    for place, facts in _known(store, job_ids, seen, tell_unreadable):
        tell(facts)
        if facts.plan is None:
            wanting.add(_line(facts, "extract"))
        line = _line(facts, facts.next_verb)
        share = shares.setdefault(line, Share(seen.room(*line, low=low)))
        key = facts.plan.parts_key if facts.plan and facts.next_verb == "extract" else facts.job_id
        _offer(store, facts, share, turns=busy[f"{facts.next_verb}:{key}"], place=place)
    # What finds no room waits on the store, where it costs nothing.
    for (queue, _), share in shares.items():
        for step, limit_s in share.picked():
            broker.send(step, queue, store_id=store_id, time_limit_s=limit_s)
    return wanting | {line for line, share in shares.items() if share.left_over}


def _known(
    store: Store,
    job_ids: Iterable[str],
    seen: broker.Snapshot,
    tell_unreadable: Callable[[JobUnreadable], object],
) -> Iterator[tuple[int, JobFacts]]:
    """Yield what is known of each job that can be read, with its place among all."""
    fitness = Fitness(store)
    for place, job_id in enumerate(job_ids):
        try:
            with store.reading(job_id):
                waiting = seen.waiting_for(store.needs(job_id))
            facts = store.facts(job_id, running=seen.running, waiting=waiting)
        except JobUnreadable as error:
            # Written by another version, or not by us, or a disk that does not let us: it must
            # not stop the other jobs.
            tell_unreadable(error)
            continue
        yield place, replace(facts, refused=fitness.refused(facts))


def _offer(store: Store, facts: JobFacts, share: Share[Entry], *, turns: int, place: int) -> None:
    """Offer a job's next steps to the share of their queue; declare it failed where it has.

    Args:
        turns: how many of its steps are busy.
        place: the job's place among all.
    """
    submission = facts.needs.submission_ns
    share.note_busy(turns, submission=submission)
    # One more than there is room for, so that it is known that something was left.
    actions = remaining(facts, now_s=time.time(), most=share.room + 1)
    for turn, action in enumerate(actions, turns):
        if isinstance(action, Fail):
            try:
                fail(store, action)
            except OSError as error:
                log.error("job %s cannot be declared failed: %s", facts.job_id[:12], error)
            return
        entry = (action.step, time_limit_s(facts, action.step))
        order = (facts.needs.submitted_ns, place)
        if not share.offer(entry, submission=submission, turn=turn, order=order):
            return


def go_on(store: Store, job_id: str) -> None:
    """Send what follows a step that has ended, so that no job waits for somebody to look at all.

    Chunks beyond what keeps workers going are left to `reconcile`: it knows who else waits.

    Raises:
        redis.RedisError: Redis cannot be asked, or sent to.
    """
    try:
        facts = store.facts(job_id)
    except JobUnreadable as error:
        log_unreadable(error)
        return
    line = _line(facts, facts.next_verb)
    if not open_steps(facts):
        return
    if facts.next_verb != "extract":
        # There is always room; and sent a second time it would find the lease taken.
        advance(store, [job_id], seen=broker.Snapshot())
    elif broker.runs_low(*line):
        advance(store, [job_id], low=True)


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
