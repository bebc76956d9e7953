"""Who gets what: urgent work goes first, and what a worker cannot do waits for one that can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playmill.store.refusals import refusals
from tests.chaos.mill import CONFIG, Job, Mill, make_recordings, pid_of
from tests.integration.support import PROJECT, Playmill

SLOW = "extract:part-written:sleep=0.4:1000000"
ELSEWHERE = {"PLAYMILL_ROOTS": "elsewhere=/"}
"""The environment of a worker that does not know the root of the recordings."""


def command(mill: Mill, *arguments: str) -> str:
    """Run the command with the settings of a mill; return what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "playmill.cli", *arguments],
        env={**os.environ, **mill.settings.to_env(), "PYTHONPATH": str(PROJECT)},
        cwd=mill.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def extractions(mill: Mill, job: Job) -> list[dict[str, object]]:
    """Return the tries of a job's chunks."""
    return [attempt for attempt in mill.tries(job) if str(attempt["step"]).isdecimal()]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[Mill, list[Job]]]:
    """A mill of one slow worker, in the middle of a backlog."""
    recordings = make_recordings(tmp_path / "in", 8, seconds=5)
    with Mill(tmp_path / "mill", num_gpu=1, num_cpu=1, uncounted=[SLOW]) as mill:
        jobs = [mill.submit(path) for path in recordings]
        mill.wait_for(lambda: list(mill.store.root.glob("parts/*/commits/*.json")))
        yield mill, jobs


@pytest.mark.timeout(200)
def test_a_backlog_does_not_keep_urgent_work_waiting(
    busy: tuple[Mill, list[Job]], tmp_path: Path
) -> None:
    mill, backlog = busy
    # Given a backlog of which most waits in the queue, when something urgent is submitted
    (recording,) = make_recordings(tmp_path / "urgent", 1, first=100, seconds=5)
    job = mill.submit(recording, urgent=True)
    mill.wait([job])
    # Then nothing else was begun between its first chunk and its last
    began = [float(str(attempt["started_s"])) for attempt in extractions(mill, job)]
    others = [
        float(str(attempt["started_s"]))
        for other in backlog
        for attempt in extractions(mill, other)
    ]
    between = [start for start in others if min(began) < start < max(began)]
    assert (len(began), between) == (5, [])
    # And the backlog goes on afterwards, and what waits of it has not become urgent
    assert any(mill.ending(other) is None for other in backlog)
    mill.wait(backlog)
    assert {mill.ending(other) for other in backlog} == {"published"}


@pytest.mark.timeout(200)
def test_what_was_submitted_already_becomes_urgent_and_stays_so(
    busy: tuple[Mill, list[Job]],
) -> None:
    mill, backlog = busy
    # Given the job that would come last, as nothing of it has been extracted
    last = next(job for job in backlog[::-1] if not extractions(mill, job))
    # When it is submitted again as urgent, and then once more by somebody in no hurry
    assert mill.submit(last.recording, urgent=True).job_id == last.job_id
    mill.submit(last.recording)
    assert mill.store.needs(last.job_id).urgent
    # Then it is done before the others, and each chunk once
    mill.wait([last])
    ended = [job for job in backlog if mill.ending(job)]
    assert last in ended
    assert len(ended) <= len(backlog) - 3
    assert len(extractions(mill, last)) == 5


@pytest.mark.timeout(200)
def test_a_worker_that_cannot_do_it_leaves_it_to_one_that_can(tmp_path: Path) -> None:
    recordings = make_recordings(tmp_path / "in", 3, seconds=3)
    with Mill(tmp_path / "mill", uncounted=[SLOW], own={"gpu0": ELSEWHERE}) as mill:
        jobs = [mill.submit(path) for path in recordings]
        mill.wait(jobs)
        # Then everything is published, by the other, and no try was spent
        assert {mill.ending(job) for job in jobs} == {"published"}
        tries = [attempt for job in jobs for attempt in extractions(mill, job)]
        assert len(tries) == 9
        assert len({pid_of(attempt) for attempt in tries}) == 1
        log = (mill.folder / "gpu0.log").read_text()
        assert "PLAYMILL_ROOTS of this worker has no root 'local'" in log


@pytest.mark.timeout(200)
def test_what_nobody_can_do_waits_says_why_and_goes_on_when_somebody_can(tmp_path: Path) -> None:
    (recording,) = make_recordings(tmp_path / "in", 1, seconds=5)
    own = {"gpu0": dict(ELSEWHERE)}
    with Mill(tmp_path / "mill", num_gpu=1, num_cpu=1, own=own) as mill:
        # Given a job that the only extracting worker cannot do
        job = mill.submit(recording)
        mill.wait_for(
            lambda: (
                mill.store.manifest(job.job_id)
                and refusals(mill.store.root, mill.store.facts(job.job_id).fit, now_s=0)
            )
        )
        # Then it waits, with no try spent and no message in the way of others
        assert mill.ending(job) is None
        assert extractions(mill, job) == []
        mill.wait_for(lambda: not mill.redis().llen("playmill:extract-cpu"))
        shown = command(mill, "status")
        assert "1 recording waits: no worker that listens can do it" in shown
        assert "has no root 'local'" in shown
        # When the worker is mended and started again
        mill.processes["gpu0"].env = {**mill.processes["gpu0"].env, **mill.settings.to_env()}
        mill.kill("gpu0")
        # Then the job is done
        mill.wait([job])
        assert mill.ending(job) == "published"
        assert len(extractions(mill, job)) == 5


@pytest.mark.timeout(200)
def test_a_job_for_a_gpu_waits_for_one_and_says_so(tmp_path: Path) -> None:
    (recording,) = make_recordings(tmp_path / "in", 1)
    with Mill(tmp_path / "mill", num_gpu=1, num_cpu=1) as mill:
        job = mill.submit(recording, replace(CONFIG, device_class="cuda"))
        mill.wait_for(lambda: mill.store.manifest(job.job_id))
        mill.wait_for(lambda: mill.redis().llen("playmill:extract-cuda"))
        shown = command(mill, "status")
        assert "1 recording waits: no worker with a GPU listens" in shown
        assert "submit with --device cpu" in shown
        assert extractions(mill, job) == []
        # And no other is kept waiting by it
        other = mill.submit(recording)
        mill.wait([other])
        assert mill.ending(other) == "published"


@pytest.mark.timeout(200)
def test_a_mill_of_one_machine_does_not_wait_for_weights_that_it_cannot_fetch(
    playmill: Playmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recording,) = make_recordings(tmp_path / "in", 1)
    # Given a machine without a network
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    ended = playmill(
        *("run", recording, "--datasets", tmp_path / "datasets"),
        *("--encoder", "torchvision:mobilenet_v3_small"),
    )
    assert ended.returncode == 1
    assert "its weights cannot be fetched" in ended.stdout
    assert "give them with --weights FILE" in ended.stdout
