"""Every interleaving of workers on the real store: crashes, pauses, duplicates, losses, wipes.

A state machine in which several workers are in the middle of something at once. What the queue
promises is modelled in a few lines (it may lose, repeat and forget anything); the store, `facts`,
`remaining` and the rules of one try are those of the mill.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from playmill.jobs import (
    MAX_ATTEMPTS,
    SILENCE_S,
    Fail,
    JobFacts,
    Request,
    Step,
    open_steps,
    remaining,
    state_of,
)
from playmill.store import Store
from tests.unit.job_samples import make_commit, make_manifest, make_request

MAX_WORKERS = 3


@dataclass(slots=True)
class Worker:
    """Somebody in the middle of a step. Paused, he does nothing, and his lease runs out."""

    step: Step
    attempt: str
    has_lease: bool = True
    paused: bool = False


class Mill(RuleBasedStateMachine):
    """One job on a real store, a queue that promises nothing, and workers who may do anything."""

    @initialize(num_chunks=st.integers(0, 3))
    def begin(self, num_chunks: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="playmill-jobs-"))
        # Whether bytes outlive a power cut is not what is tested here, and takes long.
        self.patches = [mock.patch("os.fsync", return_value=None)]
        for patch in self.patches:
            patch.start()
        self.store = Store(self.folder)
        self.request: Request = make_request()
        self.job_id = self.request.job_id
        self.manifest = make_manifest(chunks=num_chunks)
        self.store.submit(self.request)
        self.queue: list[Step] = []
        self.workers: list[Worker] = []
        self.later_s = 0.0
        self.harmed = False
        self.winners: dict[int, str] = {}

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self._end_well()
        finally:
            for patch in self.patches:
                patch.stop()
            shutil.rmtree(self.folder)

    @property
    def now_s(self) -> float:
        return time.time() + self.later_s

    def facts(self, *, forgotten: bool = False) -> JobFacts:
        running = {worker.step.name for worker in self.workers if worker.has_lease}
        waiting = {step.name for step in self.queue}
        if forgotten:
            running, waiting = set(), set()
        return self.store.facts(self.job_id, running=frozenset(running), waiting=frozenset(waiting))

    def _do(self, facts: JobFacts) -> None:
        for action in remaining(facts, now_s=self.now_s):
            if isinstance(action, Fail):
                self.store.end(self.job_id, "failed", {"reason": action.reason})
            else:
                self.queue.append(action.step)

    # The queue

    @rule()
    def reconcile(self) -> None:
        self._do(self.facts())

    @rule()
    def reconcile_knowing_nothing_of_leases_and_messages(self) -> None:
        self._do(self.facts(forgotten=True))

    @precondition(lambda self: self.queue)
    @rule(place=st.integers(0, 9))
    def lose_a_message(self, place: int) -> None:
        self.queue.pop(place % len(self.queue))

    @precondition(lambda self: self.queue and len(self.queue) < 12)
    @rule(place=st.integers(0, 9))
    def repeat_a_message(self, place: int) -> None:
        self.queue.append(self.queue[place % len(self.queue)])

    @rule()
    def wipe_redis(self) -> None:
        self.queue.clear()
        for worker in self.workers:
            worker.has_lease = False

    @rule(seconds=st.sampled_from([1.0, 5.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.later_s += seconds
        for worker in self.workers:
            if worker.paused:
                continue
            # His renewals: a sign of life, and the lease again where nobody else has it.
            self._touch(worker)
            taken = {other.step.name for other in self.workers if other.has_lease}
            worker.has_lease = worker.has_lease or worker.step.name not in taken

    def _touch(self, worker: Worker) -> None:
        self.store.attempts(worker.step).touch(worker.attempt)
        path = self.store.attempts(worker.step).begun_path(worker.attempt)
        if path.exists():
            os.utime(path, (self.now_s, self.now_s))

    # Workers

    @precondition(lambda self: self.queue and len(self.workers) < MAX_WORKERS)
    @rule(place=st.integers(0, 9))
    def take_a_message(self, place: int) -> None:
        step = self.queue.pop(place % len(self.queue))
        leased = any(other.has_lease and other.step.name == step.name for other in self.workers)
        if leased or step not in open_steps(self.facts()):
            return
        attempt = self.store.attempts(step).begin(who="somebody")
        if attempt is not None:
            self.workers.append(Worker(step, attempt))
            self._touch(self.workers[-1])

    @precondition(lambda self: self.workers)
    @rule(place=st.integers(0, 9))
    def pause_past_the_lease(self, place: int) -> None:
        worker = self.workers[place % len(self.workers)]
        worker.paused, worker.has_lease = True, False
        self.harmed = True

    @precondition(lambda self: self.workers)
    @rule(place=st.integers(0, 9))
    def crash(self, place: int) -> None:
        self.workers.pop(place % len(self.workers))
        self.harmed = True

    @precondition(lambda self: self.workers)
    @rule(place=st.integers(0, 9))
    def err(self, place: int) -> None:
        worker = self.workers.pop(place % len(self.workers))
        self.store.attempts(worker.step).fail(worker.attempt, OSError("full"), hopeless=False)
        self.harmed = True

    @precondition(lambda self: self.workers)
    @rule(place=st.integers(0, 9), crashes_after=st.booleans())
    def finish(self, place: int, crashes_after: bool) -> None:
        worker = self.workers.pop(place % len(self.workers))
        step = worker.step
        if step.verb == "ingest":
            self.store.put_manifest(self.job_id, self.manifest)
        elif step.chunk_index is not None:
            assert step.parts_key is not None
            commit = make_commit(step.chunk_index, attempt=worker.attempt)
            self.store.parts(step.parts_key).commit(commit)
        else:
            committed = self.store.parts(self.manifest.parts_key).committed()
            assert len(committed) == len(self.manifest.chunks), "published before its time"
            self.store.end(self.job_id, "published", {"dataset": "x"})
        if not crashes_after:
            self._do(self.facts())

    # What always holds

    @invariant()
    def a_commit_never_changes(self) -> None:
        if not hasattr(self, "store"):
            return
        for index in self.store.parts(self.manifest.parts_key).committed():
            commit = self.store.parts(self.manifest.parts_key).read_commit(index)
            assert commit is not None
            assert self.winners.setdefault(index, commit.attempt) == commit.attempt

    @invariant()
    def tries_are_bounded_and_only_what_was_tried_fails(self) -> None:
        if not hasattr(self, "store"):
            return
        facts = self.facts()
        assert all(tried.begun <= MAX_ATTEMPTS for tried in facts.attempts.values())
        if facts.failed is not None:
            assert "failed 3 times" in facts.failed

    def _end_well(self) -> None:
        """After the bad times come good ones, in which everything has to end."""
        paused = [worker for worker in self.workers if worker.paused]
        for _ in range(60):
            self.wait(15.0)
            self.reconcile()
            while self.queue:
                self.take_a_message(0)
            for worker in [worker for worker in self.workers if not worker.paused]:
                self.finish(self.workers.index(worker), crashes_after=False)
            if state_of(self.facts()) in ("published", "failed"):
                break
        facts = self.facts()
        assert state_of(facts) in ("published", "failed"), facts
        # What becomes of messages and leases alone fails nothing.
        assert self.harmed or state_of(facts) == "published", facts
        # Whoever wakes after the end changes nothing of it.
        state = state_of(facts)
        self.workers = [worker for worker in paused if worker in self.workers]
        while self.workers:
            self.finish(0, crashes_after=False)
        self.later_s += SILENCE_S
        assert remaining(self.facts(), now_s=self.now_s) == []
        assert state_of(self.facts()) in (state, "published")


TestMill = Mill.TestCase
TestMill.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
