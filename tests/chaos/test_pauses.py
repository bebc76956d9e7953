"""A process that is paused past its lease and wakes again changes nothing."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos.mill import Mill, make_recordings, pid_of, undisturbed

NAMES = (
    *("ingest:before-manifest", "extract:batch-written", "extract:before-commit"),
    *("extract:after-commit", "publish:features-written", "publish:before-link"),
    *("publish:after-link", "consolidate:before-marker"),
)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """A mill whose workers stop where they are told to."""
    folder = tmp_path_factory.mktemp("mill")
    with Mill(folder, failpoints=[f"{name}:stop:1" for name in NAMES]) as mill:
        yield mill


@pytest.mark.parametrize("name", NAMES)
def test_one_who_slept_past_his_lease_and_wakes_changes_nothing(
    mill: Mill, tmp_path: Path, name: str
) -> None:
    # Given somebody who stops in the middle, and another who finishes
    (recording,) = make_recordings(tmp_path, 1, first=next(_numbers))
    expected = undisturbed(recording, tmp_path / "serial")
    (mark,) = mill.ready(f"{name}:stop:1", 1)
    job = mill.submit(recording)
    mill.wait_for(mark.exists)
    mill.wait([job])
    path = mill.dataset(job)
    before = path.stat()
    published = mill.store.ending(job.job_id, "published")
    commits = sorted(mill.store.root.glob("parts/*/commits/*.json"))
    # When the first one wakes
    pids = {pid_of(attempt) for attempt in mill.tries(job)}
    (sleeper,) = (
        process
        for process in map(psutil.Process, pids)
        if process.status() == psutil.STATUS_STOPPED
    )
    os.kill(sleeper.pid, signal.SIGCONT)
    # Then he ends what he had in hand, takes the next job, and nothing has changed
    manifest = mill.store.manifest(job.job_id)
    assert manifest is not None
    parts = mill.store.root / "parts" / manifest.parts_key
    mill.wait_for(lambda: sleeper.status() == psutil.STATUS_SLEEPING)
    (other,) = make_recordings(tmp_path / "other", 1, first=1000 + next(_numbers))
    mill.wait([mill.submit(other)])
    mill.wait_for(lambda: not list(path.parent.glob(".data.h5.*")), timeout_s=5)
    mill.wait_for(lambda: len(list((parts / "000000").iterdir())) == 1, timeout_s=5)
    assert path.read_bytes() == expected
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert mill.store.ending(job.job_id, "published") == published
    assert mill.store.ending(job.job_id, "failed") is None
    assert set(commits) <= set(mill.store.root.glob("parts/*/commits/*.json"))
