"""What an operator sees who has something set up wrongly, or stops waiting: a sentence each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from playmill.roots import Roots
from playmill.testing import make_recording
from tasks.settings import Settings
from tests.chaos.mill import free_port
from tests.integration.support import PROJECT
from workers.processes import Process
from workers.redis_server import find_redis_server


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A deployment without workers, whose Redis wants a password."""
    port = free_port()
    command = [str(find_redis_server()), *("--port", str(port), "--bind", "127.0.0.1")]
    command += ["--requirepass", "right", "--dir", str(tmp_path), "--save", ""]
    server = Process("redis", command, {}, tmp_path / "redis.log")
    server.start()
    with redis.Redis(port=port, password="right") as client:
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
    yield Settings(
        broker_url=f"redis://:right@127.0.0.1:{port}/0",
        store=tmp_path / "store",
        datasets=tmp_path / "datasets",
        roots=Roots({"rec": tmp_path / "recordings"}),
    )
    server.kill()


def start(settings: Settings, *words: str) -> subprocess.Popen[str]:
    """Start the command with these settings."""
    return subprocess.Popen(
        [sys.executable, "-m", "playmill.cli", *words],
        env={**os.environ, **settings.to_env(), "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return its exit status, and what it said on stderr."""
    with process:
        _, err = process.communicate(timeout=60)
    return process.returncode, " ".join(err.split())


def test_a_wrong_password_is_called_so(settings: Settings) -> None:
    url = settings.broker_url.replace("right", "wrong")
    shown = settings.shown_broker_url
    says = (
        f"playmill: the Redis at {shown} refuses the user or the password; mend them in"
        " PLAYMILL_BROKER_URL"
    )
    wrong = replace(settings, broker_url=url)
    assert outcome(start(wrong, "worker", "--queue", "cpu")) == (2, says)
    assert outcome(start(wrong, "status")) == (0, f"no jobs on the store at {wrong.store} {says}")


def test_status_says_that_no_redis_answers(settings: Settings) -> None:
    away = replace(settings, broker_url=f"redis://:right@127.0.0.1:{free_port()}/0")
    status, err = outcome(start(away, "status"))
    assert status == 0
    assert f"playmill: no Redis answers at {away.shown_broker_url}: Error 111" in err
    assert err.endswith("Connection refused; start it, or mend PLAYMILL_BROKER_URL")


def test_a_worker_names_the_roots_that_it_lacks(settings: Settings) -> None:
    worker = start(settings, "worker", "--queue", "cpu")
    time.sleep(5)
    worker.terminate()
    status, err = outcome(worker)
    assert status == 0
    assert f"root rec: there is no folder {settings.roots.folders['rec']}; is the share" in err


def test_who_stops_waiting_is_told_that_the_work_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    recording = make_recording(tmp_path / "recordings" / "play", seconds=1).folder
    waiting = start(settings, "submit", str(recording), "--wait", "--encoder", "mean_pixel")
    while not list(settings.store.glob("jobs/*/request.json")):
        assert waiting.poll() is None
        time.sleep(0.1)
    time.sleep(2)
    waiting.send_signal(signal.SIGINT)
    status, err = outcome(waiting)
    assert status == 130
    assert "no longer waiting; the work goes on: `playmill watch` shows it" in err
