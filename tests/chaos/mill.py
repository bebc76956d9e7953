"""A mill whose every process may be killed: the project's own commands around a temporary folder.

A keeper starts again what has died, as Docker or systemd would.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest
import redis

from playmill import pipeline
from playmill.config import PipelineConfig
from playmill.failpoints import Failpoint
from playmill.markers import read_json
from playmill.roots import Roots
from playmill.store import Store
from playmill.store.identity import begin
from playmill.testing import make_recording
from playmill.verify import verify
from tasks.settings import Settings
from tasks.submit import make_request
from tasks.submit import submit as submit_request
from workers.processes import Process, worker_command
from workers.redis_server import find_redis_server

CONFIG = PipelineConfig(encoder="mean_pixel", chunk_frames=30)
LEASE_S = 2.0
RECONCILE_S = 1.0
ENDINGS = ("published", "failed", "cancelled")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_recordings(folder: Path, count: int, *, first: int = 0, seconds: float = 1) -> list[Path]:
    """Make recordings number `first` and so on: one chunk a second, no two of the same video."""
    return [
        # A video of its own, by the time it starts at.
        make_recording(folder / f"play-{number}", seconds=seconds, start_pts=3000 * number).folder
        for number in range(first, first + count)
    ]


def undisturbed(recording: Path, folder: Path, config: PipelineConfig = CONFIG) -> bytes:
    """Return the dataset that nobody disturbs the making of."""
    return pipeline.run(recording, folder, config).read_bytes()


@dataclass(slots=True)
class Job:
    """A submitted recording."""

    job_id: str
    recording: Path
    config: PipelineConfig


@dataclass(slots=True)
class Mill:
    """Redis, workers and beat in `folder`."""

    folder: Path
    num_gpu: int = 2
    num_cpu: int = 2
    lease_s: float = LEASE_S
    reconcile_s: float = RECONCILE_S
    failpoints: Sequence[str] = ()
    """Of all workers, as in PLAYMILL_FAILPOINT, counted together."""
    uncounted: Sequence[str] = ()
    """Failpoints that count for each process alone, in place of `failpoints`."""
    broker_port: int | None = None
    """Where the workers look for Redis; None: where it is."""
    own: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Environment variables of single processes, by name."""
    store_folder: Path | None = None
    datasets_folder: Path | None = None
    redis_port: int = field(default_factory=free_port)
    processes: dict[str, Process] = field(default_factory=dict)
    _ending: threading.Event = field(default_factory=threading.Event)
    _held: set[str] = field(default_factory=set)
    _keeper: threading.Thread | None = None

    # What it is made of

    @property
    def settings(self) -> Settings:
        """What every process of it is told."""
        return Settings(
            broker_url=f"redis://127.0.0.1:{self.broker_port or self.redis_port}/0",
            store=self.store_folder or self.folder / "store",
            datasets=self.datasets_folder or self.folder / "datasets",
            roots=Roots.whole_machine(),
            device="cpu",
            reconcile_s=self.reconcile_s,
            lease_s=self.lease_s,
        )

    @property
    def store(self) -> Store:
        """The truth."""
        return Store(self.settings.store)

    @property
    def marks(self) -> Path:
        """Where failpoints are counted."""
        return self.folder / "failpoints"

    def redis(self) -> redis.Redis:
        """Return a connection to Redis itself, past any proxy."""
        return redis.Redis(port=self.redis_port, socket_timeout=5)

    def _env(self) -> dict[str, str]:
        env = self.settings.to_env()
        if self.failpoints:
            env["PLAYMILL_FAILPOINT_DIR"] = str(self.marks)
        env["PLAYMILL_FAILPOINT"] = ",".join((*self.failpoints, *self.uncounted))
        return env

    def _commands(self) -> dict[str, list[str]]:
        redis_server = [
            *(str(find_redis_server()), "--port", str(self.redis_port), "--bind", "127.0.0.1"),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
        ]
        beat = [sys.executable, "-m", "workers.beat"]
        commands = {"redis": redis_server, "beat": beat}
        for kind, count in (("gpu", self.num_gpu), ("cpu", self.num_cpu)):
            for number in range(count):
                commands[f"{kind}{number}"] = worker_command(kind, name=f"{kind}{number}")
        return commands

    # Its life

    def __enter__(self) -> Mill:
        for folder in (self.settings.store, self.settings.datasets, self.marks):
            folder.mkdir(parents=True, exist_ok=True)
        for text in self.failpoints:
            self.spend(text)
        env = self._env()
        for name, command in self._commands().items():
            log = self.folder / f"{name}.log"
            self.processes[name] = Process(name, command, {**env, **self.own.get(name, {})}, log)
            self.processes[name].start()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()
        return self

    def _keep(self) -> None:
        while not self._ending.wait(0.2):
            for name, process in self.processes.items():
                if name not in self._held and not process.alive():
                    process.kill()
                    process.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()
        if self._keeper is not None:
            self._keeper.join()
        for process in self.processes.values():
            process.kill()

    def kill(self, name: str) -> None:
        """Kill a whole process with its children; the keeper starts it again."""
        self.processes[name].kill()

    @contextlib.contextmanager
    def without(self, name: str) -> Any:
        """Have a process dead for a block."""
        self._held.add(name)
        self.kill(name)
        try:
            yield
        finally:
            self._held.discard(name)

    def pool_children(self, kind: str) -> dict[str, psutil.Process]:
        """Return the process that does the work of each worker of a kind, where there is one."""
        found = {}
        for name, process in self.processes.items():
            if not name.startswith(kind) or process.running is None:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.running.pid).children(recursive=True):
                    command = " ".join(child.cmdline())
                    if "spawn_main" in command and "celery" in " ".join(child.parent().cmdline()):
                        found[name] = child
        return found

    # Failpoints, all spent until one is asked for

    def _failpoint(self, text: str) -> Failpoint:
        return Failpoint.parse(text, self.marks)

    def spend(self, text: str) -> None:
        """Let a failpoint not happen (again)."""
        for mark in self._failpoint(text).marks:
            mark.touch()

    def ready(self, text: str, times: int) -> list[Path]:
        """Let a failpoint happen so many times; return what is there once it has."""
        marks = self._failpoint(text).marks[:times]
        for mark in marks:
            mark.unlink()
        return marks

    # Its work

    def submit(
        self, recording: Path, config: PipelineConfig = CONFIG, *, urgent: bool = False
    ) -> Job:
        """Put a request on the store, as `playmill submit` does; beat finds it."""
        begin(self.settings.store, self.settings.datasets)
        request = make_request(
            recording, config, self.settings.roots, urgent=urgent, submission_ns=time.time_ns()
        )
        submit_request(self.store, request, datasets=self.settings.datasets)
        return Job(request.job_id, recording, config)

    def ending(self, job: Job) -> str | None:
        """Return how a job ended, if it has."""
        return next((name for name in ENDINGS if self.store.ending(job.job_id, name)), None)

    def wait(self, jobs: Sequence[Job], *, timeout_s: float = 90) -> None:
        """Return once all jobs have ended."""
        self.wait_for(lambda: all(self.ending(job) for job in jobs), timeout_s=timeout_s)

    def wait_for(self, condition: Callable[[], object], *, timeout_s: float = 60) -> None:
        """Return once something is so; fail the test with all logs if it does not become so."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout_s:g} s in vain\n{self.report()}")
            time.sleep(0.05)

    def dataset(self, job: Job) -> Path:
        """Return where a job's dataset is."""
        published = self.store.ending(job.job_id, "published")
        assert published is not None, self.reason(job) + self.report()
        return self.settings.datasets / str(published["dataset"])

    def reason(self, job: Job) -> str:
        """Return why a job failed."""
        return str((self.store.ending(job.job_id, "failed") or {}).get("reason", ""))

    def assert_right(self, expected: Mapping[str, bytes], jobs: Sequence[Job]) -> None:
        """Assert that every job is published, with the bytes of the undisturbed dataset, once."""
        for job in jobs:
            path = self.dataset(job)
            assert path.read_bytes() == expected[job.recording.name], job.recording.name
            assert self.store.ending(job.job_id, "failed") is None
        files = [path for path in self.settings.datasets.rglob("*") if path.is_file()]
        named = [path for path in files if path.name == "data.h5"]
        assert len(named) == len({self.dataset(job) for job in jobs}), named
        for path in named[:3]:
            assert verify(path) == []

    def tries(self, job: Job) -> list[dict[str, Any]]:
        """Return all attempts of a job, in the order in which they began."""
        folders = [self.store.job_folder(job.job_id) / "attempts"]
        manifest = self.store.manifest(job.job_id)
        if manifest is not None:
            folders.append(self.store.root / "parts" / manifest.parts_key / "attempts")
        begun = [
            {**(read_json(path) or {}), "step": path.name.partition(".")[0]}
            for folder in folders
            for path in folder.glob("*.json")
            if not path.name.endswith(".failed.json")
        ]
        return sorted(begun, key=lambda attempt: float(attempt["started_s"]))

    def report(self) -> str:
        """Return the ends of all logs."""
        logs = (self.folder / f"{name}.log" for name in self.processes)
        return "".join(f"--- {path.name}\n{_tail(path)}" for path in logs if path.exists())


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-1200:]


def pid_of(attempt: Mapping[str, Any]) -> int:
    """Return the process that made an attempt."""
    return int(str(attempt["who"]).rpartition(":")[2])


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder."""
    shutil.copytree(source, target, copy_function=shutil.copy2)


def kill9(process: psutil.Process) -> bool:
    """Kill a process; say whether it was there."""
    try:
        os.kill(process.pid, 9)
    except ProcessLookupError:
        return False
    return True
