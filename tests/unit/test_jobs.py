"""remaining(): never sends what is busy, always ends, and blames the right job."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playmill.jobs import (
    MAX_ATTEMPTS,
    RETRY_DELAY_S,
    SILENCE_S,
    Attempts,
    Commit,
    Fail,
    JobFacts,
    Request,
    Send,
    Step,
    open_steps,
    remaining,
    state_of,
)
from playmill.manifest import JobPlan, SourceFile
from playmill.roots import RootedPath
from tests.unit.job_samples import make_commit, make_manifest, make_request

JOB = "a" * 64
MANIFEST = make_manifest(chunks=3)
KEY = MANIFEST.parts_key
PLAN = JobPlan.from_json(MANIFEST.to_json())
NOW = 1_000_000.0


def facts(**changed: Any) -> JobFacts:
    """Return the facts of a planned job of three chunks."""
    values: dict[str, Any] = {"job_id": JOB, "plan": PLAN}
    return JobFacts(**values | changed)


def extract(index: int) -> Step:
    """Return the step that extracts chunk `index`."""
    return Step(verb="extract", job_id=JOB, chunk_index=index, parts_key=KEY)


def sent(known: JobFacts, *, now_s: float = NOW) -> list[str]:
    """Return what is to be sent; there must be nothing else."""
    actions = remaining(known, now_s=now_s)
    assert all(isinstance(action, Send) for action in actions)
    return [action.step.name for action in actions if isinstance(action, Send)]


def reason(known: JobFacts, *, now_s: float = NOW) -> str:
    """Return the reason of the one failure that is to be declared."""
    (action,) = remaining(known, now_s=now_s)
    assert isinstance(action, Fail)
    return action.reason


INGEST = Step(verb="ingest", job_id=JOB).name
CONSOLIDATE = Step(verb="consolidate", job_id=JOB).name
ALL = [extract(index).name for index in range(3)]
TABLE: dict[str, tuple[JobFacts, list[str]]] = {
    "new": (JobFacts(job_id=JOB), [INGEST]),
    "ingest under way": (JobFacts(job_id=JOB, busy=frozenset({INGEST})), []),
    "planned": (facts(), ALL),
    "one committed": (facts(committed=frozenset({1})), [ALL[0], ALL[2]]),
    "one busy": (facts(busy=frozenset({ALL[0]})), ALL[1:]),
    "the last one busy": (facts(committed=frozenset({0, 1}), busy=frozenset({ALL[2]})), []),
    "all committed": (facts(committed=frozenset({0, 1, 2})), [CONSOLIDATE]),
    "consolidating": (
        facts(committed=frozenset({0, 1, 2}), busy=frozenset({CONSOLIDATE})),
        [],
    ),
    "foreign commits": (facts(committed=frozenset({7, 8, 9})), ALL),
    "published": (facts(published=True), []),
    "failed": (facts(failed="a reason"), []),
    "cancelled": (facts(cancelled=True), []),
    "no chunks": (facts(plan=replace(PLAN, chunk_frames=())), [CONSOLIDATE]),
    "another's hopelessness": (
        facts(attempts={f"extract:{'b' * 64}:0": Attempts(begun=9, hopeless=True)}),
        ALL,
    ),
}


@pytest.mark.parametrize(("known", "expected"), TABLE.values(), ids=TABLE)
def test_what_is_open_and_not_busy_is_sent(known: JobFacts, expected: list[str]) -> None:
    assert sent(known) == expected


@pytest.mark.parametrize("begun", range(1, MAX_ATTEMPTS))
def test_a_failed_step_is_sent_again_after_a_pause(begun: int) -> None:
    tried = Attempts(begun=begun, failed_at_s=NOW, error="disk full")
    known = JobFacts(job_id=JOB, attempts={INGEST: tried})
    pause = RETRY_DELAY_S[begun]
    assert sent(known, now_s=NOW + pause - 0.1) == []
    assert sent(known, now_s=NOW + pause) == [INGEST]


def test_a_step_whose_worker_died_is_sent_again_at_once() -> None:
    known = JobFacts(job_id=JOB, attempts={INGEST: Attempts(begun=1, seen_s=NOW)})
    assert sent(known) == [INGEST]


def test_a_step_tried_too_often_fails_the_job_with_the_last_reason() -> None:
    tried = Attempts(begun=MAX_ATTEMPTS, failed_at_s=NOW, error="disk full")
    assert reason(facts(attempts={ALL[1]: tried})) == (
        "extract of chunk 1 failed 3 times, last: disk full"
    )


def test_a_hopeless_step_fails_the_job_at_once_with_its_reason_alone() -> None:
    tried = Attempts(begun=1, failed_at_s=NOW, error="x.mp4: found nothing", hopeless=True)
    known = JobFacts(job_id=JOB, attempts={INGEST: tried})
    assert reason(known) == "x.mp4: found nothing"


def test_a_last_try_without_a_word_may_still_go_on() -> None:
    tried = Attempts(begun=MAX_ATTEMPTS, seen_s=NOW)
    known = facts(attempts={ALL[0]: tried})
    assert sent(known, now_s=NOW + SILENCE_S - 1) == ALL[1:]
    assert reason(known, now_s=NOW + SILENCE_S) == (
        "extract of chunk 0 failed 3 times, last: the worker died each time; its log says more"
    )


def test_a_last_try_that_somebody_works_on_is_waited_for() -> None:
    tried = Attempts(begun=MAX_ATTEMPTS, seen_s=0.0)
    known = facts(attempts={ALL[0]: tried}, busy=frozenset(ALL))
    assert sent(known) == []


def test_a_commit_outweighs_every_failed_try() -> None:
    tried = Attempts(begun=MAX_ATTEMPTS, failed_at_s=NOW, error="x", hopeless=True)
    assert sent(facts(attempts={ALL[0]: tried}, committed=frozenset({0}))) == ALL[1:]


STATES: dict[str, tuple[JobFacts, str]] = {
    "queued": (JobFacts(job_id=JOB), "queued"),
    "waiting": (JobFacts(job_id=JOB, busy=frozenset({INGEST})), "queued"),
    "planning": (JobFacts(job_id=JOB, running=frozenset({INGEST})), "planning"),
    "extracting": (facts(), "extracting"),
    "consolidating": (facts(committed=frozenset({0, 1, 2})), "consolidating"),
    "published": (facts(published=True, failed="before", cancelled=True), "published"),
    "failed": (facts(failed=""), "failed"),
    "cancelled": (facts(cancelled=True), "cancelled"),
}


@pytest.mark.parametrize(("known", "state"), STATES.values(), ids=STATES)
def test_every_job_has_one_state(known: JobFacts, state: str) -> None:
    assert state_of(known) == state


class World:
    """A store, a queue and workers in a few lines: what the real ones promise, and no more."""

    def __init__(self, num_chunks: int) -> None:
        self.manifest = make_manifest(chunks=num_chunks)
        self.planned = self.published = False
        self.failed: str | None = None
        self.committed: set[int] = set()
        self.begun: Counter[str] = Counter()
        self.ended: dict[str, Attempts] = {}
        self.queue: list[Step] = []
        self.leased: set[str] = set()
        self.now_s = NOW

    def facts(self, *, forgetful: bool = False) -> JobFacts:
        """Return what the store and the queue say; a wiped queue knows nothing."""
        running = frozenset() if forgetful else frozenset(self.leased)
        waiting = frozenset() if forgetful else frozenset(step.name for step in self.queue)
        unknown = Attempts()
        attempts = {
            name: replace(self.ended.get(name, unknown), begun=count)
            if name in self.ended
            else Attempts(begun=count, seen_s=self.now_s if name in self.leased else 0.0)
            for name, count in self.begun.items()
        }
        return JobFacts(
            job_id=JOB,
            plan=JobPlan.from_json(self.manifest.to_json()) if self.planned else None,
            committed=frozenset(self.committed),
            attempts=attempts,
            busy=running | waiting,
            running=running,
            published=self.published,
            failed=self.failed,
        )

    def advance(self, *, forgetful: bool = False) -> None:
        """Do what `remaining()` says."""
        known = self.facts(forgetful=forgetful)
        for action in remaining(known, now_s=self.now_s):
            if isinstance(action, Fail):
                self.failed = self.failed or action.reason
            else:
                assert action.step.name not in known.busy
                self.queue.append(action.step)

    def work(self, fate: str) -> None:
        """Take a message, and let the worker meet its fate."""
        if not self.queue:
            return
        step = self.queue.pop(0)
        if fate == "duplicated":
            self.queue.append(step)
        if fate == "lost" or step not in open_steps(self.facts()) or step.name in self.leased:
            return
        if self.begun[step.name] >= MAX_ATTEMPTS:
            return
        self.begun[step.name] += 1
        self.ended.pop(step.name, None)
        self.leased.add(step.name)
        if fate == "slow":
            # The queue forgets everything while the worker goes on.
            self.advance(forgetful=True)
        self.leased.discard(step.name)
        if fate == "crashed":
            return
        if fate == "erred":
            self.ended[step.name] = Attempts(failed_at_s=self.now_s, error="a passing fault")
            return
        assert self.failed is None or fate != "slow", "failed while its last try went on"
        if step.verb == "ingest":
            self.planned = True
        elif step.chunk_index is not None:
            self.committed.add(step.chunk_index)
        else:
            self.published = True


FATES = ["done", "done", "done", "slow", "lost", "duplicated", "crashed", "erred"]


@settings(max_examples=80, deadline=None)
@given(
    num_chunks=st.integers(0, 4),
    fates=st.lists(st.sampled_from(FATES), max_size=80),
    wipes=st.sets(st.integers(0, 80), max_size=5),
)
def test_every_job_ends_whatever_becomes_of_messages_and_workers(
    num_chunks: int, fates: list[str], wipes: set[int]
) -> None:
    world = World(num_chunks)
    # After the bad times come good ones, in which everything has to end.
    for turn, fate in enumerate([*fates, *["done"] * 60]):
        if turn in wipes:
            world.queue.clear()
        world.advance()
        world.work(fate)
        world.now_s += 15.0
    world.advance()
    assert world.published != (world.failed is not None)
    assert max(world.begun.values()) <= MAX_ATTEMPTS
    assert remaining(world.facts(), now_s=world.now_s + SILENCE_S) == []
    if set(fates) <= {"done", "slow", "lost", "duplicated"}:
        assert world.published


def test_equal_recordings_and_configurations_are_one_job() -> None:
    assert make_request(submitted_ns=1).job_id == make_request(submitted_ns=2).job_id


@pytest.mark.parametrize(
    "other",
    [
        make_request("other"),
        make_request(policy="nearest"),
        make_request(num_threads=1),
        Request.make(
            RootedPath("other", "session"), make_request().sources, make_request().config,
            submitted_ns=1,
        ),
        Request.make(
            make_request().recording,
            (SourceFile(path="session.json", size=10, mtime_ns=21),),
            make_request().config,
            submitted_ns=1,
        ),
    ],
    ids=["recording", "policy", "threads", "root", "touched"],
)  # fmt: skip
def test_another_recording_or_configuration_is_another_job(other: Request) -> None:
    assert other.job_id != make_request().job_id


@pytest.mark.parametrize("name", ["session", "ünïcödé 録画", "x\udcff", '"'])
def test_a_request_survives_json(name: str) -> None:
    request = make_request(name, image_size=(4, 6), window_us=None)
    assert Request.from_json(json.loads(json.dumps(request.to_json()))) == request


@pytest.mark.parametrize("pts", [None, []], ids=["frames", "no frames"])
def test_a_commit_survives_json(pts: list[int] | None) -> None:
    commit = make_commit(5, pts, warnings=("a warning",))
    assert Commit.from_json(json.loads(json.dumps(commit.to_json()))) == commit


def test_extraction_is_named_by_its_parts_and_the_rest_by_its_job() -> None:
    other = replace(extract(1), job_id="b" * 64)
    assert other.name == extract(1).name == f"extract:{KEY}:1"
    assert Step(verb="consolidate", job_id=JOB).name == f"consolidate:{JOB}"
