"""`playmill worker` as a person starts it in a shell: nobody but itself starts it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.chaos.mill import Mill, make_recordings, undisturbed
from tests.integration.support import PROJECT, descendants

AWAY_S = 10.0
"""Longer than the watchdog's patience."""


@contextmanager
def worker(mill: Mill, kind: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `playmill worker` beside a mill that has none; its log is `KIND.out`."""
    command = [sys.executable, "-m", "playmill.cli", "worker", "--queue", kind]
    settings = {**os.environ, **mill.settings.to_env(), "PYTHONPATH": str(PROJECT), **env}
    with (mill.folder / f"{kind}.out").open("wb") as out:
        process = subprocess.Popen(command, cwd=mill.folder, env=settings, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    """Redis and beat."""
    with Mill(tmp_path / "mill", num_gpu=0, num_cpu=0) as mill:
        yield mill


def test_redis_is_away_while_a_task_ends_and_the_worker_goes_on(mill: Mill, tmp_path: Path) -> None:
    # Given a chunk in hand, held up
    recording, later = make_recordings(tmp_path / "in", 2)
    held = {
        "PLAYMILL_FAILPOINT": "extract:before-commit:stop:1",
        "PLAYMILL_FAILPOINT_DIR": str(mill.marks),
    }
    with worker(mill, "cpu"), worker(mill, "gpu", **held) as extracting:

        def stopped() -> list[psutil.Process]:
            pool = descendants(extracting, "spawn_main")
            return [child for child in pool if child.status() == psutil.STATUS_STOPPED]

        job = mill.submit(recording)
        mill.wait_for(stopped)
        # When Redis is away while the task ends
        with mill.without("redis"):
            os.kill(stopped()[0].pid, signal.SIGCONT)
            time.sleep(AWAY_S)
        # Then what is sent later is done, by the same command
        jobs = [job, mill.submit(later)]
        mill.wait(jobs)
    expected = {path.name: undisturbed(path, tmp_path / "alone") for path in (recording, later)}
    mill.assert_right(expected, jobs)
    # And its log tells it in lines that a person can read
    log = (mill.folder / "gpu.out").read_text()
    assert "could not tell Redis that its last task has ended" in log
    assert "(by SIGKILL): started again at once" in log
    for noise in ("Traceback", "superuser", "semaphore", "CPendingDeprecation"):
        assert noise not in log


def test_a_worker_that_is_killed_is_started_again(mill: Mill, tmp_path: Path) -> None:
    (recording,) = make_recordings(tmp_path / "in", 1)
    with worker(mill, "cpu") as ingesting, worker(mill, "gpu"):
        for _ in range(2):
            mill.wait_for(lambda: descendants(ingesting, "celery"))
            killed = descendants(ingesting, "celery")
            for process in killed:
                process.kill()
            psutil.wait_procs(killed, timeout=30)  # else the next look would find them once more
        mill.wait([mill.submit(recording)])
    log = (mill.folder / "cpu.out").read_text()
    assert "started again at once" in log
    assert "started again in 1 s" in log
