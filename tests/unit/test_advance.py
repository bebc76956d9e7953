"""Advancing jobs: what is wrong with one of them stops none of the others."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playmill.jobs import MAX_ATTEMPTS, Step
from playmill.roots import Roots
from playmill.store import Store
from tasks import app as app_module
from tasks import broker
from tasks.advance import advance, open_jobs
from tasks.settings import Settings
from tests.unit.job_samples import make_request

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


def test_a_job_that_cannot_be_declared_failed_is_passed_over(
    store: Store,
    sent: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = Step(verb="ingest", job_id=JOBS[0])
    for _ in range(MAX_ATTEMPTS):
        name = store.begin_attempt(step, who="me")
        assert name is not None
        store.fail_attempt(step, name, ValueError("bad"), hopeless=False)

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
