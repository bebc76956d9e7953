"""One try of one step: what it does to the process, and to what others have dropped meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from playmill import consolidation, failpoints
from playmill.config import PipelineConfig
from playmill.errors import PartError, UsageError
from playmill.jobs import Commit, Step
from playmill.roots import Roots
from playmill.store import Store
from playmill.testing import make_recording
from tasks import app as app_module
from tasks import attempt as module
from tasks import consolidate as consolidate_module
from tasks import extract as extract_module
from tasks import ingest as ingest_module
from tasks.attempt import has_broken_cuda
from tasks.submit import make_request, submit
from tests.unit.app_samples import deployed
from tests.unit.job_samples import make_commit
from workers import commands

CUDA_TEXT = "CUDA error: an illegal memory access was encountered"


def caused(error: Exception) -> Exception:
    """Return an error that `error` led to."""
    try:
        try:
            raise error
        except Exception as first:
            raise ValueError("cannot extract") from first
    except ValueError as second:
        return second


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.AcceleratorError(CUDA_TEXT), True),
        (caused(torch.AcceleratorError(CUDA_TEXT)), True),
        (RuntimeError(CUDA_TEXT), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (RuntimeError("shapes do not match"), False),
        (OSError(28, "full"), False),
    ],
    ids=["lost", "led to another", "by its text", "memory", "memory, by CUDA", "bug", "disk"],
)
def test_an_error_that_leaves_the_gpu_unusable_is_told(error: Exception, expected: bool) -> None:
    assert has_broken_cuda(error) == expected


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with one job, planned in one chunk; leases and queue are not there."""

    @contextlib.contextmanager
    def leased(_: Step) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(release=lambda: None)

    with deployed(tmp_path) as store:
        monkeypatch.setattr(module.broker, "leased", leased)
        monkeypatch.setattr(module.broker, "forget_sent", lambda _: None)
        monkeypatch.setattr(module, "go_on", lambda *_: None)
        recording = make_recording(tmp_path / "in", seconds=1).folder
        request = make_request(
            recording, PipelineConfig(encoder="mean_pixel"), Roots.whole_machine()
        )
        submit(store, request, datasets=tmp_path / "datasets")
        ingest_module.ingest(request.job_id)
        yield store


class FakeExtractor:
    """Writes a part of one file, in place of features."""

    processor = SimpleNamespace(spec=None)

    def extract(self, _: Any, chunk: Any, __: Any, *, folder: Path) -> Commit:
        folder.mkdir(parents=True)
        (folder / "features").write_bytes(b"rows")
        return make_commit(chunk.index, attempt=folder.name)


@pytest.fixture
def extracting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_module, "_extractor", lambda *_: FakeExtractor())
    monkeypatch.setattr(extract_module, "_check_planned", lambda *_: None)


def only_job(store: Store) -> tuple[str, str]:
    """Return the id and the parts key of the only job."""
    (job_id,) = store.job_ids()
    plan = store.plan(job_id)
    assert plan is not None
    return job_id, plan.parts_key


@pytest.mark.usefixtures("extracting")
def test_a_worker_that_does_not_see_the_store_leaves_all_to_others(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_id, _ = only_job(store)
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    store.root.rename(tmp_path / "elsewhere")
    extract_module.extract(job_id, 0)
    consolidate_module.consolidate(job_id)
    ingest_module.ingest(job_id)
    assert caplog.text.count(f"no store at {store.root} with id") == 3
    assert caplog.text.count("is the share mounted? left to others: ") == 3
    assert pauses == [module.NO_STORE_PAUSE_S] * 3
    assert not store.root.exists()


@pytest.mark.parametrize("waiting", [frozenset({"ingest:x"}), frozenset()], ids=["steps", "none"])
def test_a_command_makes_no_store_where_the_queue_knows_of_another(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: frozenset[str]
) -> None:
    seen = module.broker.Snapshot(waiting=waiting)
    monkeypatch.setattr(module.broker, "look", lambda: seen)
    monkeypatch.setattr(module.broker, "noted_store", lambda: None)
    monkeypatch.setattr(commands.presence, "listeners", dict)
    commands._check_store(app_module.settings())
    store.root.rename(tmp_path / "elsewhere")
    if waiting:
        with pytest.raises(UsageError, match=r"no store at .*; is the share mounted"):
            commands._check_store(app_module.settings())
    else:
        commands._check_store(app_module.settings())


class Ended(BaseException):
    """In place of the end of the process."""


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "another error"])
def test_a_process_that_lost_its_gpu_notes_it_and_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    def end(status: int) -> None:
        raise Ended(status)

    def work(*_: Any) -> None:
        raise torch.AcceleratorError(CUDA_TEXT) if is_lost else RuntimeError("a bug")

    monkeypatch.setattr(os, "_exit", end)
    job_id, key = only_job(store)
    step = Step(verb="extract", job_id=job_id, chunk_index=0, parts_key=key)
    with pytest.raises(Ended, match="1") if is_lost else contextlib.nullcontext():
        module.attempt(step, work)
    tried = store.facts(job_id).attempts[step.name]
    assert (tried.begun, tried.hopeless) == (1, False)
    assert ("illegal memory access" if is_lost else "a bug") in str(tried.error)


@pytest.mark.usefixtures("extracting")
def test_a_part_is_committed(store: Store) -> None:
    job_id, key = only_job(store)
    extract_module.extract(job_id, 0)
    assert store.committed(key) == {0}


@pytest.mark.usefixtures("extracting")
def test_a_part_whose_features_were_dropped_meanwhile_is_thrown_away(store: Store) -> None:
    job_id, key = only_job(store)
    failpoints.arm("extract:before-commit", lambda: store.drop_parts(key))
    extract_module.extract(job_id, 0)
    failpoints.disarm()
    assert store.committed(key) == frozenset()
    assert not list((store.root / "parts").glob("*/*/*/features"))
    extract_module.extract(job_id, 0)
    assert store.committed(key) == {0}


@pytest.mark.usefixtures("extracting")
@pytest.mark.parametrize("collecting", [True, False], ids=["collected", "damaged"])
def test_parts_that_are_collected_under_its_hands_are_not_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch, collecting: bool
) -> None:
    job_id, key = only_job(store)
    extract_module.extract(job_id, 0)

    def publish(*_: Any, **__: Any) -> None:
        if collecting:
            store.collect_parts(key, dataset="session_x/data.h5")
        raise PartError("a part", "is missing")

    monkeypatch.setattr(consolidation, "consolidate", publish)
    consolidate_module.consolidate(job_id)
    # Damaged parts are computed again; collected ones are in a dataset, and keep their commits.
    assert store.committed(key) == ({0} if collecting else frozenset())
    tried = store.facts(job_id).attempts[f"consolidate:{job_id}"]
    assert (tried.error, tried.hopeless) == ("a part: is missing", False)
