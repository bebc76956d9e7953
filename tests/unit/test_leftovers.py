"""What the killed leave behind goes, once it is old and nobody holds it; nothing else does."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from playmill.jobs import Step
from playmill.publishing.publication import collect_stale
from playmill.store import Store
from tasks.collect import drop_parts_of
from tasks.leftovers import STALE_S, find_leftovers, sweep
from tests.unit.job_samples import make_commit, make_manifest, make_request

KEY = make_manifest().parts_key
HEX = "0123456789abcdef"


def write(path: Path, *, age_s: float = 2 * STALE_S) -> Path:
    """Write a file of three bytes that was last changed some time ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"abc")
    for place in (path, path.parent):
        os.utime(place, (time.time() - age_s,) * 2)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def found(
    store: Store, tmp_path: Path, *, running: frozenset[str] = frozenset()
) -> dict[Path, int]:
    leftovers = find_leftovers(store, tmp_path / "datasets", running=running, now_s=time.time())
    return {leftover.path: leftover.bytes for leftover in leftovers}


def test_a_part_that_never_won_goes_and_the_winner_stays(store: Store, tmp_path: Path) -> None:
    parts = store.root / "parts" / KEY
    lost = write(parts / "000000" / "1-lost" / "x").parent
    won = write(parts / "000000" / "1-00000000" / "x").parent
    alone = write(parts / "000001" / "1-alone" / "x").parent
    young = write(parts / "000002" / "1-young" / "x", age_s=60).parent
    assert store.parts(KEY).commit(make_commit(0))
    assert found(store, tmp_path) == {lost: 3, alone: 3}
    step = Step(verb="extract", job_id="", chunk_index=1, parts_key=KEY)
    assert found(store, tmp_path, running=frozenset({step.name})) == {lost: 3}
    for leftover in find_leftovers(
        store, tmp_path / "datasets", running=frozenset(), now_s=time.time()
    ):
        sweep(leftover)
    assert (lost.exists(), alone.exists(), won.exists(), young.exists()) == (
        *(False, False),
        *(True, True),
    )


def test_temporaries_go_and_files_that_are_no_temporaries_stay(
    store: Store, tmp_path: Path
) -> None:
    reports = tmp_path / "datasets" / "reports"
    session = tmp_path / "datasets" / "session_x"
    job = store.root / "jobs" / ("a" * 64)
    old = [
        write(job / f".request.json.{HEX}"),
        write(job / "attempts" / f".ingest.1.json.{HEX}"),
        write(store.root / "parts" / KEY / "commits" / f".000000.json.{HEX}"),
        write(reports / f".nightly.json.{HEX}"),
        write(tmp_path / "datasets" / "failed" / f".session_x.alignment.json.{HEX}.tmp"),
        write(session / f".data.h5.{HEX}.tmp"),
        write(session / f".alignment.json.{HEX}.tmp"),
    ]
    kept = [
        write(job / "request.json"),
        write(store.root / "sessions" / ".publish.lock"),
        write(session / "data.h5"),
        write(session / ".data.h5.mine"),
        write(store.root / "parts" / KEY / "000000" / "1-x" / f".c.{HEX}", age_s=60),
    ]
    young = write(job / f".failed.json.{HEX}", age_s=60)
    assert set(found(store, tmp_path)) == set(old)
    for leftover in find_leftovers(
        store, tmp_path / "datasets", running=frozenset(), now_s=time.time()
    ):
        sweep(leftover)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (*kept, young))


def test_what_goes_while_it_looks_is_passed_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = store.root / "parts" / KEY / "000000" / "1-x"
    session = tmp_path / "datasets" / "session_x"
    job = store.root / "jobs" / ("a" * 64)
    gone = [
        write(part / "gone"),
        write(session / f".data.h5.{HEX}.tmp"),
        write(job / f".request.json.{HEX}"),
    ]
    write(part / "stays")
    real = os.lstat, os.stat

    def missing(path: Any) -> None:
        if isinstance(path, (str, Path)) and Path(path) in gone:
            raise FileNotFoundError(2, "gone", str(path))

    def lstat(path: Any, **kwargs: Any) -> os.stat_result:
        missing(path)
        return real[0](path, **kwargs)

    def stat(path: Any, **kwargs: Any) -> os.stat_result:
        missing(path)
        return real[1](path, **kwargs)

    monkeypatch.setattr(os, "lstat", lstat)
    monkeypatch.setattr(os, "stat", stat)
    assert found(store, tmp_path) == {part: 3}
    assert store.parts(KEY).num_bytes() == 3


def test_of_a_publication_only_what_nobody_holds_is_collected(tmp_path: Path) -> None:
    target = write(tmp_path / "data.h5")
    second_name, dead, alive = (tmp_path / f".data.h5.{n}.tmp" for n in ("a", "b", "c"))
    os.link(target, second_name)
    write(dead, age_s=0)
    write(alive, age_s=0)
    with alive.open() as writer, target.open() as reader:
        fcntl.flock(writer, fcntl.LOCK_SH)
        # Somebody reads the published file, of which one temporary is a second name.
        fcntl.flock(reader, fcntl.LOCK_SH)
        collect_stale(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "data.h5"]


def test_parts_of_a_cancelled_job_go_unless_an_open_one_shares_them(
    store: Store, tmp_path: Path
) -> None:
    jobs = [make_request("one"), make_request("two")]
    for request in jobs:
        store.submit(request)
        store.put_manifest(request.job_id, make_manifest())
    part = write(store.root / "parts" / KEY / "000000" / "1-x" / "x")
    assert store.parts(KEY).commit(make_commit(0, attempt="1-x"))
    store.end(jobs[0].job_id, "cancelled", {"reason": "by hand"})
    said = drop_parts_of(store, jobs[0].job_id, tmp_path / "datasets")
    assert said == f"parts kept: job {jobs[1].job_id[:12]}, which is open, shares them"
    assert part.exists()
    store.end(jobs[1].job_id, "cancelled", {"reason": "by hand"})
    said = drop_parts_of(store, jobs[0].job_id, tmp_path / "datasets")
    assert said == "0.0 MB of parts deleted"
    assert not part.exists()
    assert store.parts(KEY).committed() == frozenset()
    assert list(store.parts_keys()) == []


def test_a_job_that_is_not_planned_has_no_parts(store: Store, tmp_path: Path) -> None:
    store.submit(make_request())
    assert drop_parts_of(store, make_request().job_id, tmp_path) == "has no parts yet"
