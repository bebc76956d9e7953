"""One try of one step: what it does to the process, and to what others have dropped meanwhile."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from playmill import failpoints
from playmill.config import PipelineConfig
from playmill.errors import PartError, UsageError
from playmill.jobs import Commit, Step
from playmill.publishing import consolidation
from playmill.roots import Roots
from playmill.store import Store
from playmill.store.identity import begin
from playmill.store.refusals import refusals
from tasks import app as app_module
from tasks import attempt as module
from tasks import consolidate as consolidate_module
from tasks import extract as extract_module
from tasks import ingest as ingest_module
from tasks.attempt import has_broken_cuda
from tasks.submit import make_request, submit
from tests.unit.app_samples import deployed
from tests.unit.job_samples import make_commit, make_manifest, make_session
from workers.commands import connecting

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
        monkeypatch.setattr(module.fit, "_refused", {})
        make_session(tmp_path / "in")
        config = PipelineConfig(encoder="mean_pixel")
        request = make_request(tmp_path / "in", config, Roots.whole_machine())
        submit(store, request, datasets=tmp_path / "datasets")
        store.put_manifest(request.job_id, make_manifest(chunks=1, config=config))
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
    monkeypatch.setattr(connecting.presence, "listeners", dict)
    connecting.check_store(app_module.settings())
    store.root.rename(tmp_path / "elsewhere")
    if waiting:
        with pytest.raises(UsageError, match=r"no store at .*; is the share mounted"):
            connecting.check_store(app_module.settings())
    else:
        connecting.check_store(app_module.settings())


@pytest.mark.usefixtures("extracting")
@pytest.mark.parametrize("marked", ["none", "another"])
def test_a_worker_that_sees_another_store_leaves_all_to_others(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    marked: str,
) -> None:
    # Given a store with the same job in it, which is not that of the messages
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    job_id, key = only_job(store)
    if marked == "another":
        begin(store.root, tmp_path / "datasets")
    before = sorted(store.root.rglob("*"))
    extract_module.extract(job_id, 0, "the right one")
    consolidate_module.consolidate(job_id, "the right one")
    ingest_module.ingest(job_id, "the right one")
    assert caplog.text.count("with id the right one (found: ") == 3
    assert sorted(store.root.rglob("*")) == before
    # And that of its own is done
    begun = begin(store.root, tmp_path / "datasets")
    extract_module.extract(job_id, 0, begun.store)
    assert store.parts(key).committed() == {0}


@pytest.mark.usefixtures("extracting")
@pytest.mark.parametrize("late", [False, True], ids=["at first", "while it publishes"])
@pytest.mark.parametrize("state", ["absent", "empty", "another"])
def test_nothing_is_published_into_another_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, late: bool
) -> None:
    datasets = tmp_path / "datasets"
    begin(store.root, datasets)
    job_id, _ = only_job(store)
    extract_module.extract(job_id, 0)
    named: list[bool] = []

    def unmount() -> None:
        datasets.rename(tmp_path / "elsewhere")
        if state != "absent":
            datasets.mkdir()
        if state == "another":
            begin(tmp_path / "another store", datasets)

    def publish(*_: Any, claim: Any, **__: Any) -> None:
        if late:
            unmount()
        named.append(claim())

    monkeypatch.setattr(consolidation, "consolidate", publish)
    if not late:
        unmount()
    consolidate_module.consolidate(job_id)
    # Then no name was given, no try counts, and everybody can read why.
    assert named == []
    assert store.facts(job_id).attempts.keys() & {f"consolidate:{job_id}"} == set()
    assert store.ending(job_id, "published") is None
    (noted,) = refusals(store.root, store.facts(job_id).fit, now_s=time.time())
    assert f"datasets folder {datasets}" in noted.reason
    assert "Is the share mounted" in noted.reason


@pytest.mark.parametrize("known", ["noted", "listeners"])
def test_no_store_is_begun_where_another_is_known(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    heard = {"host:1": connecting.presence.Listener(frozenset({"cpu"}), "abc")}
    monkeypatch.setattr(module.broker, "look", module.broker.Snapshot)
    monkeypatch.setattr(module.broker, "noted_store", lambda: "abc" if known == "noted" else None)
    monkeypatch.setattr(
        connecting.presence, "listeners", lambda: heard if known == "listeners" else {}
    )
    with pytest.raises(UsageError, match="Redis knows the one with id abc; is the share mounted"):
        connecting.check_store(app_module.settings())
    # A store that has an identity is what counts; Redis may be that of another time.
    begin(store.root, tmp_path / "datasets")
    connecting.check_store(app_module.settings())


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
    assert store.parts(key).committed() == {0}


@pytest.mark.usefixtures("extracting")
def test_a_part_whose_features_were_dropped_meanwhile_is_thrown_away(store: Store) -> None:
    job_id, key = only_job(store)
    failpoints.arm("extract:before-commit", lambda: store.parts(key).drop())
    extract_module.extract(job_id, 0)
    failpoints.disarm()
    assert store.parts(key).committed() == frozenset()
    assert not list((store.root / "parts").glob("*/*/*/features"))
    extract_module.extract(job_id, 0)
    assert store.parts(key).committed() == {0}


@pytest.mark.usefixtures("extracting")
@pytest.mark.parametrize("collecting", [True, False], ids=["collected", "damaged"])
def test_parts_that_are_collected_under_its_hands_are_not_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch, collecting: bool
) -> None:
    job_id, key = only_job(store)
    extract_module.extract(job_id, 0)

    def publish(*_: Any, **__: Any) -> None:
        if collecting:
            store.parts(key).collect(dataset="session_x/data.h5")
        raise PartError("a part", "is missing")

    monkeypatch.setattr(consolidation, "consolidate", publish)
    consolidate_module.consolidate(job_id)
    # Damaged parts are computed again; collected ones are in a dataset, and keep their commits.
    assert store.parts(key).committed() == ({0} if collecting else frozenset())
    tried = store.facts(job_id).attempts[f"consolidate:{job_id}"]
    assert (tried.error, tried.hopeless) == ("a part: is missing", False)


def test_damaged_commit_markers_are_dropped_and_their_chunks_computed_again(store: Store) -> None:
    manifest = make_manifest()
    for chunk in manifest.chunks:
        store.parts(manifest.parts_key).commit(make_commit(chunk.index))
    markers = sorted((store.root / "parts" / manifest.parts_key / "commits").iterdir())
    for marker in markers[1:]:
        marker.write_bytes(marker.read_bytes().replace(b'"pts": [', b'"pts": [1'))
    with pytest.raises(PartError, match="checksum is that of another content"):
        consolidate_module._commits(store.parts(manifest.parts_key), manifest)
    assert store.parts(manifest.parts_key).committed() == {0}
