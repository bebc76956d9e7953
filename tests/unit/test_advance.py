"""Advancing jobs: what is wrong with one of them stops none of the others."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from playmill.jobs import MAX_ATTEMPTS, Step
from playmill.roots import Roots
from playmill.store import Store
from playmill.store.identity import begin
from tasks import app as app_module
from tasks import broker
from tasks.advance import advance, go_on, open_jobs
from tasks.settings import Settings
from tests.unit.job_samples import make_commit, make_manifest, make_request

REQUESTS = [make_request(name) for name in ("one", "two", "three")]
JOBS = [request.job_id for request in REQUESTS]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The jobs of the steps that were sent, to a queue that is empty and stays so."""
    before = list(app_module._chosen)
    app_module.use(
        Settings(
            broker_url="redis://localhost",
            store=tmp_path,
            datasets=tmp_path / "datasets",
            roots=Roots.whole_machine(),
        )
    )
    sent: list[str] = []
    monkeypatch.setattr(broker, "look", broker.Snapshot)
    monkeypatch.setattr(broker, "send", lambda step, *_, **__: sent.append(step.job_id))
    yield sent
    app_module._chosen[:] = before


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for request in REQUESTS:
        store.submit(request)
    return store


def test_a_job_that_cannot_be_read_is_passed_over(
    store: Store, sent: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    request = store.job_folder(JOBS[0]) / "request.json"
    request.unlink()
    request.mkdir()
    with caplog.at_level(logging.ERROR):
        advance(store, JOBS)
    assert sent == JOBS[1:]
    assert f"job {JOBS[0][:12]} cannot be read" in caplog.text


@pytest.mark.parametrize("small_ns", [1, 9], ids=["first", "last"])
def test_a_small_submission_has_its_share_beside_a_large_one(
    store: Store, sent: list[str], small_ns: int
) -> None:
    for request in REQUESTS:
        store.submit(replace(request, submission_ns=small_ns))
    large = [
        replace(make_request(f"of many {n}", submitted_ns=n), submission_ns=5) for n in range(20)
    ]
    for request in large:
        store.submit(request)
    # Whatever comes first from the disk, there is room for eight.
    ids = [request.job_id for request in large]
    assert advance(store, [*ids, *JOBS]) == {("cpu", "ingest"), ("extract-cpu", "extract")}
    assert sorted(sent) == sorted([*JOBS, *ids[: broker.MIN_WAITING_INGESTS - len(JOBS)]])


def test_messages_say_of_which_store_they_are(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    said: list[str | None] = []
    monkeypatch.setattr(broker, "send", lambda *_, store_id, **__: said.append(store_id))
    known = begin(store.root, tmp_path / "datasets")
    advance(store, JOBS)
    assert said == [known.store] * len(JOBS)


@pytest.mark.parametrize("chunk_index", [None, 7])
def test_a_message_holds_ids_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch, chunk_index: int | None
) -> None:
    args: list[list[object]] = []
    monkeypatch.setattr(broker, "client", lambda: SimpleNamespace(set=lambda *_, **__: True))
    monkeypatch.setattr(broker, "_lease_ms", lambda: 1)
    monkeypatch.setattr(broker.app, "send_task", lambda _, given, **__: args.append(given))
    step = Step(verb="ingest", job_id=JOBS[0], chunk_index=chunk_index)
    broker.send(step, "cpu", store_id="the store's")
    assert args == [[JOBS[0], *([] if chunk_index is None else [7]), "the store's"]]


@pytest.mark.parametrize(("waiting", "expected"), [(15, 1), (16, 0)], ids=["low", "enough"])
def test_what_follows_a_chunk_is_sent_where_workers_would_soon_want_for_work(
    store: Store,
    sent: list[str],
    monkeypatch: pytest.MonkeyPatch,
    waiting: int,
    expected: int,
) -> None:
    manifest = make_manifest(chunks=40)
    store.put_manifest(JOBS[0], manifest)
    monkeypatch.setattr(broker, "length", lambda _: waiting)
    monkeypatch.setattr(broker, "look", lambda: broker.Snapshot(lengths={"extract-cpu": waiting}))
    go_on(store, JOBS[0])
    assert len(sent) == expected
    # What follows the last one is sent whatever waits.
    for index in range(40):
        store.parts(manifest.parts_key).commit(make_commit(index))
    verbs: list[str] = []
    monkeypatch.setattr(broker, "send", lambda step, *_, **__: verbs.append(step.verb))
    go_on(store, JOBS[0])
    assert verbs == ["consolidate"]


def test_a_job_that_cannot_be_declared_failed_is_passed_over(
    store: Store,
    sent: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = Step(verb="ingest", job_id=JOBS[0])
    for _ in range(MAX_ATTEMPTS):
        name = store.attempts(step).begin(who="me")
        assert name is not None
        store.attempts(step).fail(name, ValueError("bad"), hopeless=False)

    def refuse(*_: Any) -> bool:
        raise PermissionError(13, "not allowed")

    monkeypatch.setattr(Store, "end", refuse)
    with caplog.at_level(logging.ERROR):
        advance(store, JOBS)
    assert sent == JOBS[1:]
    assert f"job {JOBS[0][:12]} cannot be declared failed" in caplog.text


def test_a_job_that_cannot_be_looked_into_is_open(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, folder = os.stat, str(store.job_folder(JOBS[0]))

    def stat(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path).startswith(folder):
            raise PermissionError(13, "not allowed", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    assert set(open_jobs(store)) == set(JOBS)
