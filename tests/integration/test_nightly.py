"""The nightly run with a real Redis, real workers and real beats: by hand, and by the clock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playmill.failpoints import Failpoint
from playmill.markers import read_json
from playmill.nights import nightly as nights
from playmill.roots import Roots
from playmill.store import Store
from playmill.testing import make_recording
from playmill.verify import verify
from tasks.settings import Settings
from tests.chaos.failpoint_names import NIGHTLY
from tests.integration.support import PROJECT
from workers.processes import Process, worker_command
from workers.redis_server import find_redis_server, redis_command, wait_for_redis

WORK_S = 150.0


class Deployment:
    """A Redis, a worker for each queue, and an inbox, in temporary folders."""

    def __init__(self, folder: Path, socket_folder: Path) -> None:
        self.inbox = folder / "recordings" / "inbox"
        self.inbox.mkdir(parents=True)
        config = folder / "night.json"
        config.write_text(json.dumps({"encoder": "mean_pixel", "chunk_frames": 30}))
        self.settings = Settings(
            broker_url=f"redis+socket://{socket_folder}/redis.sock?virtual_host=0",
            store=folder / "store",
            datasets=folder / "datasets",
            roots=Roots({"rec": folder / "recordings"}),
            inbox=(self.inbox,),
            device="cpu",
            nightly_config=config,
            reconcile_s=2.0,
        )
        self.store = Store(self.settings.store)
        self._socket_folder, self._folder = socket_folder, folder
        self.processes: list[Process] = []

    def start(self, name: str, command: list[str], **env: str) -> Process:
        """Start a process of the deployment with its settings."""
        log = self._folder / f"{name}.log"
        process = Process(name, command, {**self.settings.to_env(), **env}, log)
        process.start()
        self.processes.append(process)
        return process

    def start_mill(self) -> None:
        """Start Redis and the workers."""
        self.start("redis", redis_command(find_redis_server(), self._socket_folder))
        wait_for_redis(self._socket_folder)
        for kind in ("cpu", "gpu"):
            self.start(kind, worker_command(kind, name=kind))

    def nightly(self, *options: str, **changed: Any) -> subprocess.CompletedProcess[str]:
        """Run `playmill nightly --once`."""
        return subprocess.run(
            [sys.executable, "-m", "playmill.cli", "nightly", "--once", *options],
            env={
                **os.environ,
                **replace(self.settings, **changed).to_env(),
                "PYTHONPATH": str(PROJECT),
            },
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=WORK_S,
            check=False,
        )

    def report(self, *, status: int, **changed: Any) -> dict[str, Any]:
        """Run `playmill nightly --once --json` and return its report."""
        ended = self.nightly("--json", **changed)
        assert ended.returncode == status, ended.stdout + ended.stderr + self.logs()
        value = json.loads(ended.stdout)
        assert isinstance(value, dict)
        name = value["nominal"].replace(":", "")
        base = self.settings.datasets / "reports" / f"nightly-{name}"
        assert read_json(base.with_suffix(".json")) == value
        return value

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in self._folder.glob("*.log")
        )


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    socket_folder = Path(tempfile.mkdtemp(prefix="playmill-"))
    made = Deployment(tmp_path, socket_folder)
    try:
        yield made
    finally:
        for process in reversed(made.processes):
            process.kill()
        shutil.rmtree(socket_folder)


def age(folder: Path, minutes: float) -> None:
    """Let a recording be last changed some minutes ago."""
    when_s = time.time() - 60 * minutes
    for path in (*folder.iterdir(), folder):
        os.utime(path, (when_s, when_s))


@pytest.mark.timeout(400)
def test_a_night_by_hand_takes_what_is_finished_once_and_again_when_it_changes(
    deployment: Deployment,
) -> None:
    # Given a good recording, a broken one, and one that is still being copied
    inbox = deployment.inbox
    for name in ("good", "broken", "late"):
        make_recording(inbox / name, session_id=name)
        if name == "broken":
            next((inbox / name).glob("video.*")).write_bytes(b"no video at all")
        if name == "late":
            (inbox / name / "more.mp4.part").touch()
        age(inbox / name, 60)

    # When the night is run
    deployment.start_mill()
    report = deployment.report(status=1)

    # Then one is published, one failed with its reason, and one was left alone
    assert (report["new"], report["submitted"], report["known"]) == (3, 2, 0)
    rows = {row["session_id"]: row for row in report["jobs"]}
    assert rows["good"]["state"] == "published"
    assert verify(deployment.settings.datasets / rows["good"]["dataset"]) == []
    assert report["frames"] == rows["good"]["frames"] > 0
    assert report["hours"] > 0
    assert report["frames_per_s"] > 0
    assert rows["broken"]["state"] == "failed"
    assert "broken" in rows["broken"]["error"]
    (late,) = report["skipped"]
    assert late["recording"] == "rec:inbox/late"
    assert "more.mp4.part beside it" in late["why"]

    # And again: there is nothing new, and what failed is not tried again
    time.sleep(1)  # a run by hand is known by its second
    again = deployment.report(status=0)
    assert (again["new"], again["submitted"], again["known"]) == (1, 0, 2)

    # And when the log was mended, and the copy is complete, both are taken
    os.utime(inbox / "good" / "inputs.jsonl", (time.time() - 1800,) * 2)
    (inbox / "late" / "more.mp4.part").unlink()
    age(inbox / "late", 30)
    time.sleep(1)  # a run by hand is known by its second
    third = deployment.report(status=0)
    assert sorted(row["session_id"] for row in third["jobs"]) == ["good", "late"]
    assert third["published"] == 2

    # And an inbox that is gone is told, and is no crash
    absent = deployment.inbox.parent / "absent"
    shown = deployment.nightly(inbox=(absent, deployment.inbox))
    assert shown.returncode == 1
    assert f"problem: inbox {absent}: there is no such folder" in shown.stdout
    assert "0 submitted" in shown.stdout


@pytest.mark.timeout(400)
def test_two_beats_give_one_run_for_the_time_that_was_missed(deployment: Deployment) -> None:
    # Given a schedule that is known for long, whose last time has passed while nobody was there
    deployment.settings = replace(deployment.settings, nightly="0 0 1 * *")
    crontab = deployment.settings.crontab
    assert crontab is not None
    nights.note_schedule(deployment.store, crontab, now_s=time.time() - 100 * 86_400)
    nominal_s = crontab.latest(time.time())
    make_recording(deployment.inbox / "good", session_id="good")
    age(deployment.inbox / "good", 60)

    # When workers and two beats come up
    deployment.start_mill()
    for number in (1, 2):
        deployment.start(f"beat{number}", [sys.executable, "-m", "playmill.cli", "beat"])

    # Then there is one run, for that time, with its report
    reports = deployment.settings.datasets / "reports"
    deadline = time.monotonic() + WORK_S
    while not list((deployment.settings.store / "nightly").glob("*.reported.json")):
        assert time.monotonic() < deadline, deployment.logs()
        time.sleep(0.5)
    (path,) = reports.glob("*.json")
    report = json.loads(path.read_text())
    assert report["nominal_s"] == nominal_s
    assert (report["submitted"], report["published"]) == (1, 1)
    assert "1 published, 0 failed" in path.with_suffix(".txt").read_text()


@pytest.mark.timeout(400)
def test_a_beat_that_is_killed_in_the_middle_of_a_night_gives_one_run_all_the_same(
    deployment: Deployment, tmp_path: Path
) -> None:
    # Given a time that is due, and a beat that dies of kill -9 at every step of the night
    deployment.settings = replace(deployment.settings, nightly="0 0 1 * *")
    crontab = deployment.settings.crontab
    assert crontab is not None
    nights.note_schedule(deployment.store, crontab, now_s=time.time() - 100 * 86_400)
    names = ["one", "two", "three"]
    for number, name in enumerate(names):
        make_recording(deployment.inbox / name, session_id=name, start_pts=3000 * number)
        age(deployment.inbox / name, 60)
    marks = tmp_path / "marks"
    marks.mkdir()
    failpoints = [Failpoint.parse(f"{name}:kill9:1", marks) for name in NIGHTLY]
    armed = ",".join(f"{name}:kill9:1" for name in NIGHTLY)
    deployment.start_mill()

    # When it is started again each time
    reported = deployment.settings.store / "nightly"
    deadline = time.monotonic() + WORK_S
    deaths, beat = 0, None
    while not list(reported.glob("*.reported.json")):
        assert time.monotonic() < deadline, deployment.logs()
        if beat is None or not beat.alive():
            deaths += beat is not None
            beat = deployment.start(
                "beat",
                [sys.executable, "-m", "workers.beat"],
                PLAYMILL_FAILPOINT=armed,
                PLAYMILL_FAILPOINT_DIR=str(marks),
            )
        time.sleep(0.2)

    # Then it died at each of them, and there is one run with one report of all that it found
    assert all(mark.exists() for failpoint in failpoints for mark in failpoint.marks)
    assert deaths == len(NIGHTLY)
    (path,) = (deployment.settings.datasets / "reports").glob("*.json")
    report = json.loads(path.read_text())
    assert report["nominal_s"] == crontab.latest(time.time())
    assert (report["submitted"], report["published"], report["failed"]) == (3, 3, 0)
    assert len(list(deployment.store.job_ids())) == 3
    for row in report["jobs"]:
        assert verify(deployment.settings.datasets / row["dataset"]) == []
