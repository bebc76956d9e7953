"""What a worker cannot do is noted for a while, for each kind of work, and costs no try."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from playmill.errors import DecoderUnavailable, EncoderError, EncoderUnavailable, UsageError
from playmill.jobs import JobFacts, Needs, Refusal, Step, remaining
from playmill.manifest import JobPlan
from playmill.store import Store
from playmill.store.identity import begin
from playmill.store.refusals import REFUSED_S, anybody_refuses, forget, refusals, refuse
from tasks import broker, fit, presence
from tasks.fit import Fitness, Misfit, needed_here
from tasks.waiting import Waiting
from tests.unit.job_samples import make_manifest, make_request

NO = Refusal("host:1", "no GPU")
PLAN = JobPlan.from_json(make_manifest().to_json())


def test_a_refusal_counts_for_a_while(tmp_path: Path) -> None:
    assert not anybody_refuses(tmp_path)
    refuse(tmp_path, "kind", NO, now_s=1000.0)
    assert anybody_refuses(tmp_path)
    assert refusals(tmp_path, "kind", now_s=1000.0 + REFUSED_S - 1) == [NO]
    assert refusals(tmp_path, "kind", now_s=1000.0 + REFUSED_S) == []
    assert refusals(tmp_path, "other", now_s=1000.0) == []


def test_a_worker_that_starts_again_has_refused_nothing(tmp_path: Path) -> None:
    other = Refusal("host:2", "no package")
    for kind in ("one", "two"):
        refuse(tmp_path, kind, NO, now_s=1000.0)
    refuse(tmp_path, "two", other, now_s=1000.0)
    forget(tmp_path, worker=NO.worker)
    assert refusals(tmp_path, "one", now_s=1000.0) == []
    assert refusals(tmp_path, "two", now_s=1000.0) == [other]
    forget(tmp_path, older_s=time.time() - 3600)
    assert anybody_refuses(tmp_path)
    forget(tmp_path)
    assert not anybody_refuses(tmp_path)
    assert os.listdir(tmp_path / "refusals") == []


KINDS = [
    Needs(),
    Needs(device_class="cuda"),
    Needs(decoder="nvdec"),
    Needs(encoder="timm:x"),
    Needs(weights_digest="a" * 64),
    Needs(root="other"),
]


def test_what_one_worker_may_lack_makes_another_kind_of_work() -> None:
    kinds = {needs.fit("extract", None) for needs in KINDS}
    kinds |= {Needs().fit("ingest", None), Needs().fit("extract", "b" * 64)}
    assert len(kinds) == len(KINDS) + 2
    assert Needs(urgent=True, source_bytes=5).fit("extract", None) in kinds


@pytest.mark.parametrize(
    "error",
    [
        DecoderUnavailable("x", "is missing", "Get it."),
        EncoderUnavailable("x", "is missing", "Get it."),
        UsageError("it is missing"),
        ImportError("it is missing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_missing_here_is_no_failure_of_the_job(error: Exception) -> None:
    with pytest.raises(Misfit, match="is missing"), needed_here():
        raise error


def test_what_is_wrong_everywhere_is_a_failure() -> None:
    with pytest.raises(EncoderError, match="has no head"), needed_here():
        raise EncoderError("x", "it has no head", "Wrap it.")


def facts(**changed: object) -> JobFacts:
    """Return the facts of a planned job."""
    values: dict[str, object] = {"job_id": "a" * 64, "plan": PLAN}
    return JobFacts(**values | changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("listening", "expected"),
    [
        ({"host:1": {"extract-cpu"}}, (NO,)),
        ({"host:1": {"extract-cpu"}, "host:2": {"extract-cpu"}}, ()),
        ({"host:1": {"extract-cpu"}, "host:2": {"extract-cuda", "cpu"}}, (NO,)),
        ({}, ()),
    ],
    ids=["all", "one can", "another queue", "nobody"],
)
def test_work_is_held_back_when_all_who_listen_refuse_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listening: dict[str, set[str]],
    expected: tuple[Refusal, ...],
) -> None:
    listeners = {
        worker: presence.Listener(frozenset(queues), None) for worker, queues in listening.items()
    }
    monkeypatch.setattr(presence, "listeners", lambda: listeners)
    refuse(tmp_path, facts().fit, NO, now_s=time.time())
    refused = Fitness(Store(tmp_path)).refused(facts())
    assert refused == expected
    assert (remaining(replace(facts(), refused=refused), now_s=time.time()) == []) == bool(expected)


def test_where_nothing_is_refused_redis_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "listeners", lambda: pytest.fail("it was asked"))
    refuse(tmp_path, "another kind", NO, now_s=time.time())
    assert Fitness(Store(tmp_path)).refused(facts()) == ()


def test_a_refusal_that_cannot_be_read_stops_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(tmp_path, facts().fit, NO, now_s=time.time())
    (noted,) = (tmp_path / "refusals").rglob("*.json")
    noted.write_text("[]")
    assert Fitness(Store(tmp_path)).refused(facts()) == ()
    # Nor does a folder that may not be looked into.
    (tmp_path / "refusals").rename(tmp_path / "away")
    (tmp_path / "refusals").touch()
    assert Fitness(Store(tmp_path)).refused(facts()) == ()
    assert caplog.text.count("refusals cannot be read") == 2


def test_a_refusal_that_cannot_be_noted_is_one_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "refusals").touch()
    fit.say_no(Store(tmp_path), "a kind of another", Misfit("no GPU"), place={})
    assert fit.has_refused("a kind of another")


def test_workers_that_see_another_store_are_not_those_who_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = begin(tmp_path / "store", tmp_path / "datasets")
    queues = frozenset({"extract-cpu"})
    listeners = {
        "host:1": presence.Listener(queues, known.store),
        "host:2": presence.Listener(queues, "another"),
    }
    monkeypatch.setattr(presence, "listeners", lambda: listeners)
    monkeypatch.setattr(broker, "running_or_none", frozenset)
    store = Store(tmp_path / "store")
    refuse(store.root, facts().fit, NO, now_s=time.time())
    assert Fitness(store).refused(facts()) == (NO,)
    del listeners["host:1"]
    assert Fitness(store).refused(facts()) == ()
    said = Waiting(store).note(facts())
    assert said is not None
    assert f"whose id is {known.store} (host:2 sees another)" in said


def test_a_refusal_takes_its_try_back_and_is_remembered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.submit(make_request())
    step = Step(verb="ingest", job_id=make_request().job_id)
    first = store.attempts(step).begin(who="me")
    second = store.attempts(step).begin(who="you")
    assert first is not None
    assert second is not None
    store.attempts(step).take_back(first)
    store.attempts(step).take_back("2-of another time")
    assert store.facts(step.job_id).attempts[step.name].begun == 2
    store.attempts(step).take_back(second)
    assert store.facts(step.job_id).attempts == {}
    fit.say_no(store, "a kind of its own", Misfit("no GPU"), place={})
    assert fit.has_refused("a kind of its own")
    (noted,) = refusals(tmp_path, "a kind of its own", now_s=time.time())
    assert noted == Refusal(presence.this_worker(), "no GPU")
