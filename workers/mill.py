"""The local mill: a private Redis and worker processes around a folder of datasets, for one run."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import redis

from playmill.errors import UsageError
from playmill.jobs import Fail, JobFacts
from playmill.roots import Roots
from playmill.store import Store
from tasks import app as tasks_app
from tasks.advance import advance, fail
from tasks.settings import Settings
from workers.devices import PER_GPU, gpu_env, visible_gpus
from workers.processes import Process, worker_command
from workers.redis_server import find_redis_server, redis_command, wait_for_redis
from workers.unreadable import Unreadable

log = logging.getLogger(__name__)

STORE_NAME = ".playmill"
POLL_S = 0.25
RECONCILE_S = 2.0
MAX_FOLDER_LENGTH = 80
MANY = 100
"""Open jobs from which on looking at each several times a second would be work."""
MAX_DEATHS = 5
"""Deaths of one process within a minute after which `run` ends: somebody waits for it, and sees."""
STOP_S = 60.0
"""A worker asked to stop gets this long for the chunk in hand."""


@contextlib.contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold the store's lock for a block: one mill at a time works in a datasets folder."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another mill works in {store.parent}; wait for it, or choose another folder"
            ) from None
        yield


def local_settings(datasets: Path, *, broker_url: str, device: str) -> Settings:
    """Return the settings of a mill that works in `datasets` on this machine alone."""
    return Settings(
        broker_url=broker_url,
        store=datasets / STORE_NAME,
        datasets=datasets,
        roots=Roots.whole_machine(),
        device=device,  # type: ignore[arg-type]
    )


class LocalMill:
    """A mill of this machine alone. Everything it starts ends with it, also when it is killed."""

    def __init__(self, datasets: Path, *, num_workers: int, device: str) -> None:
        self.store = Store(datasets / STORE_NAME)
        self.logs = self.store.root / "logs"
        redis_server = find_redis_server()  # nothing is made where there is none
        # A unix socket's path may have about 100 characters; the datasets folder's may be longer.
        self._folder = Path(tempfile.mkdtemp(prefix="playmill-"))
        if len(str(self._folder)) > MAX_FOLDER_LENGTH:
            self._folder.rmdir()
            self._folder = Path(tempfile.mkdtemp(prefix="playmill-", dir="/tmp"))
        broker_url = f"redis+socket://{self._folder}/redis.sock?virtual_host=0"
        self.settings = local_settings(datasets, broker_url=broker_url, device=device)
        tasks_app.use(self.settings)
        # The children's own litter goes when the folder goes.
        env = {**self.settings.to_env(), "TMPDIR": str(self._folder)}
        self.logs.mkdir(parents=True, exist_ok=True)
        self._redis = self._process("redis", redis_command(redis_server, self._folder), env)
        self._workers = [self._process("cpu", worker_command("cpu", name="cpu"), env)]
        gpus = visible_gpus() if device == "cuda" else []
        for number in range(num_workers):
            name = f"gpu{number}"
            own = gpu_env(gpus[number % len(gpus)], num_workers) if gpus else {}
            command = worker_command("gpu", name=name, device=device)
            self._workers.append(self._process(name, command, env | own))

    def _process(self, name: str, command: list[str], env: dict[str, str]) -> Process:
        return Process(name, command, env, self.logs / f"{name}.log")

    def __enter__(self) -> LocalMill:
        return self

    def start(self) -> None:
        """Start Redis and the workers, all at once."""
        for process in self._processes:
            if process.log_file is not None:
                process.log_file.unlink(missing_ok=True)
            process.start()
        wait_for_redis(self._folder, is_alive=self._redis.alive)

    @property
    def _processes(self) -> list[Process]:
        return [self._redis, *self._workers]

    def run(
        self,
        job_ids: Sequence[str],
        *,
        report: Callable[[Sequence[JobFacts]], None],
        unreadable: Unreadable,
    ) -> None:
        """Work until every job has ended; call `report` with what is known, several times a second.

        Starts nothing where nothing is left to do. A job that cannot be read is given up in the
        end.

        Raises:
            MillBroken: a process dies again and again.
        """
        at_first = unreadable.look(self.store, job_ids)
        report(at_first)
        open_jobs = unreadable.still_open(job_ids, at_first)
        if open_jobs:
            self.start()
        reconciled = 0.0
        while open_jobs:
            for process in self._processes:
                process.revive(give_up_after=MAX_DEATHS)
            known: list[JobFacts] = []
            if time.monotonic() - reconciled >= RECONCILE_S:
                # Redis may be on its way up again; what cannot be sent now is sent next time.
                with contextlib.suppress(redis.RedisError):
                    advance(
                        self.store, open_jobs, tell=known.append, tell_unreadable=unreadable.note
                    )
                    for facts in known:
                        if facts.refused:
                            # There are no workers here but these, and they are all alike.
                            reason = facts.refused[0].reason
                            fail(self.store, Fail(job_id=facts.job_id, reason=reason))
                    reconciled = time.monotonic()
            elif len(open_jobs) < MANY:
                known = unreadable.look(self.store, open_jobs)
            report(known)
            open_jobs = unreadable.still_open(open_jobs, known)
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Let the workers end the chunk in hand, then end."""
        for process in self._workers:
            process.ask_to_stop()
        deadline = time.monotonic() + STOP_S
        for process in self._workers:
            process.wait(max(0.0, deadline - time.monotonic()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What has been done is on the store; nobody here has anything left to lose.
        for process in reversed(self._processes):
            process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def default_workers(device: str, num_threads: int) -> int:
    """Return how many extracting processes this machine should have: by GPUs, or by cores."""
    if device == "cuda":
        return max(1, PER_GPU * len(visible_gpus()))
    return max(1, len(os.sched_getaffinity(0)) // num_threads)
