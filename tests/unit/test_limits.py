"""No task may run for ever; a long one may run longer; none outlasts Redis's patience."""

from __future__ import annotations

from playmill.jobs import JobFacts, Needs, Step
from playmill.manifest import JobPlan
from tasks.app import VISIBILITY_TIMEOUT_S
from tasks.limits import BASE_S, LONGEST_S, time_limit_s
from tests.unit.job_samples import make_manifest

JOB = "a" * 64
PLAN = JobPlan.from_json(make_manifest(chunks=2, num_frames=500).to_json())
BIG = Needs(source_bytes=2 * 10**9)


def limit(verb: str, **changed: object) -> float:
    chunk = 1 if verb == "extract" else None
    key = PLAN.parts_key if verb == "extract" else None
    step = Step(verb=verb, job_id=JOB, chunk_index=chunk, parts_key=key)  # type: ignore[arg-type]
    return time_limit_s(JobFacts(job_id=JOB, **changed), step)  # type: ignore[arg-type]


def test_every_step_has_a_limit_by_its_size() -> None:
    assert limit("ingest") == BASE_S
    assert limit("ingest", needs=BIG) == BASE_S + 2000
    cuda = Needs(device_class="cuda", source_bytes=2 * 10**9)
    assert limit("extract", plan=PLAN, needs=cuda) == BASE_S + 500
    assert limit("extract", plan=PLAN, needs=BIG) == BASE_S + 5000
    assert limit("consolidate", plan=PLAN, needs=BIG) == BASE_S + 2000 + 100


def test_a_limit_ends_before_redis_gives_the_message_to_another() -> None:
    huge = Needs(source_bytes=10**12)
    assert limit("ingest", needs=huge) == LONGEST_S
    long = JobPlan.from_json(make_manifest(chunks=2, num_frames=10**4).to_json())
    assert limit("extract", plan=long) == LONGEST_S
    assert LONGEST_S < VISIBILITY_TIMEOUT_S / 1.2
