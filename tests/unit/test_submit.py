"""Requests are written several at a time, and named only once they are on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from playmill.jobs import Request
from playmill.store import Store
from tasks import submit as module
from tasks.submit import WRITERS, submit_all
from tests.unit.job_samples import make_request


def test_each_is_on_the_store_when_it_is_named_and_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    requests = [make_request(f"play-{number}") for number in range(3 * WRITERS)]
    named = []
    for request in submit_all(store, iter(requests), datasets=tmp_path / "datasets"):
        assert store.request(request.job_id) == request
        named.append(request)
    assert named == requests


def test_no_more_is_held_than_is_being_written(tmp_path: Path) -> None:
    made: list[int] = []

    def requests() -> Iterator[Request]:
        for number in range(1000):
            made.append(number)
            yield make_request(f"play-{number}")

    submitting = submit_all(Store(tmp_path), requests(), datasets=tmp_path / "datasets")
    next(submitting)
    assert len(made) == 2 * WRITERS + 1
    submitting.close()


def test_several_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each waits for all others: one at a time, none would ever be done.
    together = threading.Barrier(WRITERS)
    monkeypatch.setattr(module, "submit", lambda *_, **__: together.wait(timeout=20))
    requests = [make_request(f"play-{number}") for number in range(WRITERS)]
    assert len(list(submit_all(Store(tmp_path), requests, datasets=tmp_path))) == WRITERS


def test_one_that_cannot_be_written_is_not_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    good, bad = make_request("good"), make_request("bad")
    store.job_folder(bad.job_id).parent.mkdir(parents=True)
    store.job_folder(bad.job_id).touch()
    submitting = submit_all(store, [good, bad], datasets=tmp_path)
    assert next(submitting) == good
    with pytest.raises(OSError, match=bad.job_id):
        next(submitting)
