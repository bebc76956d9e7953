"""What must hold after a fault, whichever step it hit."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from tests.chaos.mill import Mill, make_recordings, pid_of, undisturbed

TIMES = 2
"""Kills of one step; the third try is the last."""


def assert_killed_twice_is_harmless(
    mill: Mill, folder: Path, name: str, *, number: int
) -> list[float]:
    """Kill -9 whoever reaches a failpoint, twice over one job: it is published all the same.

    Returns seconds from each kill to the beginning of the next try.
    """
    # Given a recording of one chunk, so that both kills hit the same step
    (recording,) = make_recordings(folder, 1, first=number)
    expected = undisturbed(recording, folder / "serial")
    # When the process that reaches the step dies, and the one after it too
    marks = mill.ready(f"{name}:kill9:{TIMES}", TIMES)
    try:
        job = mill.submit(recording)
        mill.wait([job])
        # What comes after the end is reached a moment later, and once: nobody comes again.
        mill.wait_for(marks[0].exists, timeout_s=10)
        killed_s = [mark.stat().st_mtime for mark in marks if mark.exists()]
    finally:
        mill.spend(f"{name}:kill9:{TIMES}")
    # Then the dataset is that of an undisturbed run
    path = mill.dataset(job)
    assert path.read_bytes() == expected
    assert not list(path.parent.glob(".data.h5.*"))
    if name.partition(":")[2] in ("received", "released", "advanced"):
        return []
    begun_s = [float(attempt["started_s"]) for attempt in mill.tries(job)]
    later = [[begun - killed for begun in begun_s if begun > killed] for killed in killed_s]
    return [min(seconds) for seconds in later if seconds]


def assert_a_pause_changes_nothing(mill: Mill, folder: Path, name: str, *, number: int) -> None:
    """Stop whoever reaches a failpoint until another has finished, then let him go on."""
    # Given somebody who stops in the middle, and another who finishes
    (recording,) = make_recordings(folder, 1, first=number)
    expected = undisturbed(recording, folder / "serial")
    (mark,) = mill.ready(f"{name}:stop:1", 1)
    job = mill.submit(recording)
    mill.wait_for(mark.exists)
    mill.wait([job])
    path = mill.dataset(job)
    before = path.stat()
    published = mill.store.ending(job.job_id, "published")
    commits = sorted(mill.store.root.glob("parts/*/commits/*.json"))
    # When the first one wakes
    (sleeper,) = (
        process
        for process in map(psutil.Process, {pid_of(attempt) for attempt in mill.tries(job)})
        if process.status() == psutil.STATUS_STOPPED
    )
    os.kill(sleeper.pid, signal.SIGCONT)
    # Then he ends what he had in hand, others go on, and nothing has changed
    mill.wait_for(lambda: sleeper.status() == psutil.STATUS_SLEEPING)
    (other,) = make_recordings(folder / "other", 1, first=1000 + number)
    mill.wait([mill.submit(other)])
    manifest = mill.store.manifest(job.job_id)
    assert manifest is not None
    parts = mill.store.root / "parts" / manifest.parts_key / "000000"
    mill.wait_for(lambda: len(list(parts.iterdir())) == 1, timeout_s=5)
    mill.wait_for(lambda: not list(path.parent.glob(".data.h5.*")), timeout_s=5)
    assert path.read_bytes() == expected
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert mill.store.ending(job.job_id, "published") == published
    assert mill.store.ending(job.job_id, "failed") is None
    assert set(commits) <= set(mill.store.root.glob("parts/*/commits/*.json"))
