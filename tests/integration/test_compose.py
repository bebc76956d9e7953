"""The services of docker-compose.yml, as processes of this machine, make a dataset together.

Commands, environment and health checks are the file's own. What differs: the folders lie in a
temporary one, and Redis listens on a free port of 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from playmill.store import Store
from tests.compose_file import PROJECT, read_compose
from workers.redis_server import find_redis_server

RECORDING = PROJECT / "examples" / "recordings" / "doom-320x240-audio"
PASSWORD = secrets.token_hex(12)
START_S = 90.0
WORK_S = 120.0
STOP_S = 30.0


class Deployment:
    """The services of docker-compose.yml around a temporary folder."""

    def __init__(self, folder: Path) -> None:
        variables = {"REDIS_PASSWORD": PASSWORD, "REDIS_HOST": "127.0.0.1", "RECONCILE_S": "2"}
        self.services: dict[str, Any] = read_compose(variables)["services"]
        self.folder = folder
        self.port = _free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        # Longest first: no container path is replaced inside another.
        self._places = {
            "/usr/local/etc/redis/redis.conf": str(PROJECT / "infra" / "redis.conf"),
            "/recordings": str(RECORDING.parent),
            "/datasets": str(folder / "datasets"),
            "/store": str(folder / "store"),
            ":6379/": f":{self.port}/",
        }
        for name in ("store", "datasets", "home", "redis"):
            (folder / name).mkdir()

    def _here(self, text: str) -> str:
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    def env(self, service: str) -> dict[str, str]:
        """Return the environment of a service, and nothing else of ours."""
        folders = (Path(sys.executable).parent, find_redis_server().parent, "/usr/bin", "/bin")
        own = {
            name: self._here(text) for name, text in self.services[service]["environment"].items()
        }
        return {
            "PATH": os.pathsep.join(map(str, folders)),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder),
            **own,
        }

    def start(self, *services: str) -> None:
        """Start the services' commands and wait until their health checks pass."""
        for service in services:
            self._start(service)
        deadline = time.monotonic() + START_S
        for service in services:
            while (check := self.health(service)).returncode != 0:
                assert self.processes[service].poll() is None, self.log(service)
                assert time.monotonic() < deadline, check.stdout + self.log(service)
                time.sleep(0.3)

    def _start(self, service: str) -> None:
        command = [self._here(word) for word in self.services[service]["command"]]
        if service == "redis":
            command[-1] += f" --port {self.port} --bind 127.0.0.1 --dir {self.folder / 'redis'}"
        with (self.folder / f"{service}.log").open("wb") as log:
            self.processes[service] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env(service),
                cwd=PROJECT,
                start_new_session=True,
            )

    def health(self, service: str) -> subprocess.CompletedProcess[str]:
        """Run the health check of a service once."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        if kind == "CMD-SHELL":
            words = ["sh", "-c", words[0].replace("redis-cli", f"redis-cli -p {self.port}")]
        return self._run(words, service)

    def playmill(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command as `docker compose exec cpu playmill ...` would."""
        return self._run(["playmill", *map(str, arguments)], "cpu")

    def _run(self, command: list[str], service: str) -> subprocess.CompletedProcess[str]:
        env = self.env(service)
        # An absolute program, as the PATH that counts is the service's.
        program = shutil.which(command[0], path=env["PATH"]) or command[0]
        return subprocess.run(
            [program, *command[1:]],
            env=env,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=WORK_S,
            check=False,
        )

    def stop(self, service: str) -> int:
        """Send TERM as `docker compose stop` does; return the exit status."""
        process = self.processes[service]
        process.terminate()
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{service} did not end within {STOP_S} s: {self.log(service)}")

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """Kill what is left of everything that was started, by id."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    try:
        yield made
    finally:
        made.kill()


@pytest.mark.timeout(400)
def test_the_services_publish_a_recording_also_when_redis_forgets_it(
    deployment: Deployment,
) -> None:
    # Given a Redis as the file sets it up, and a recording that was submitted
    deployment.start("redis")
    client = redis.Redis(port=deployment.port, password=PASSWORD)
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    with redis.Redis(port=deployment.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    submitted = deployment.playmill("submit", RECORDING, "--encoder", "mean_pixel", "--json")
    assert submitted.returncode == 0, submitted.stderr
    (row,) = json.loads(submitted.stdout)
    assert row["state"] == "queued"

    # When Redis loses everything before a worker has come
    assert client.dbsize() > 0
    client.flushall()
    client.close()
    deployment.start("cpu", "cpu-extract", "beat")

    # Then beat alone sends it again, and the workers publish it
    _wait_for_end(deployment, row["job_id"])
    (row,) = json.loads(deployment.playmill("status", row["job_id"], "--json").stdout)
    assert row["state"] == "published", row["error"]
    dataset = Path(row["dataset"])
    assert dataset.is_relative_to(deployment.folder / "datasets")
    assert deployment.playmill("verify", dataset).stdout == f"{dataset}: ok\n"

    # And waiting works: another policy needs no second extraction
    waited = deployment.playmill(
        *("submit", RECORDING, "--encoder", "mean_pixel", "--policy", "nearest"),
        *("--wait", "--json"),
    )
    assert waited.returncode == 0, waited.stderr + deployment.log("cpu")
    assert [row["state"] for row in json.loads(waited.stdout)] == ["published"]

    # And everything stops when it is asked to
    for service in ("beat", "cpu-extract", "cpu"):
        assert deployment.stop(service) == 0
    check = deployment.health("cpu")
    assert (check.returncode, check.stdout) == (1, "no process runs workers.cpu\n")
    assert deployment.stop("redis") == 0
    check = deployment.health("beat")
    assert check.returncode == 1
    assert check.stdout.startswith("no Redis answers at redis://***@127.0.0.1")
    assert PASSWORD not in check.stdout + check.stderr
    for service in deployment.processes:
        assert PASSWORD not in deployment.log(service)


def _wait_for_end(deployment: Deployment, job_id: str) -> None:
    store = Store(deployment.folder / "store")
    deadline = time.monotonic() + WORK_S
    while not any(store.ending(job_id, name) for name in ("published", "failed", "cancelled")):
        if time.monotonic() > deadline:
            pytest.fail("".join(map(deployment.log, deployment.processes)))
        time.sleep(0.2)
