"""Say whether a service of docker-compose.yml is well: `python infra/health.py cpu|gpu|beat`.

Exit status 0, or 1 and a sentence. Looked at, cheaply and from outside the process: it runs (is
neither stopped nor a zombie), a worker has its pool process, Redis answers, and the store and the
datasets folder are there and writable. Not looked at: whether it makes progress. A task may take
long; `playmill status` shows what moves, and `reconcile` makes up for a worker that does not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import redis

from tasks.settings import Settings

KINDS = ("cpu", "gpu", "beat")
ANSWER_S = 5.0


def problem_of(kind: str, settings: Settings) -> str | None:
    """Return what is wrong with the service `kind` of these settings; None: nothing."""
    for folder in (settings.store, settings.datasets):
        if not os.access(folder, os.W_OK):
            return f"{folder} is not there, or not writable"
    if not _answers(settings.broker_url):
        return f"no Redis answers at {settings.shown_broker_url}"
    mine = [pid for pid in _processes(f"workers.{kind}") if _serves(pid, settings.broker_url)]
    if not mine:
        return f"no process runs workers.{kind}"
    if kind != "beat" and not any(_has_pool_process(pid) for pid in mine):
        return f"workers.{kind} has no pool process"
    return None


def _answers(broker_url: str) -> bool:
    # What the errors say is left out: for a malformed URL it may be a piece of the password.
    try:
        with redis.Redis.from_url(broker_url, socket_timeout=ANSWER_S) as client:
            return bool(client.ping())
    except (redis.RedisError, ValueError):
        return False


def _processes(module: str) -> Iterator[int]:
    """Yield the processes that run `module`, unless they are stopped or dead."""
    for folder in Path("/proc").glob("[0-9]*"):
        words = _read(folder / "cmdline").split(b"\0")
        if module.encode() in words and _state(folder) not in "TtZX":
            yield int(folder.name)


def _serves(pid: int, broker_url: str) -> bool:
    """Say whether a process has this broker; a host may run workers of several deployments."""
    wanted = f"PLAYMILL_BROKER_URL={broker_url}".encode()
    return wanted in _read(Path(f"/proc/{pid}/environ")).split(b"\0")


def _has_pool_process(pid: int) -> bool:
    """Say whether a process has a spawned child."""
    return any(
        b"spawn_main" in _read(folder / "cmdline") and _fields(folder)[1:2] == [str(pid)]
        for folder in Path("/proc").glob("[0-9]*")
    )


def _state(folder: Path) -> str:
    return (_fields(folder) or ["X"])[0]


def _fields(folder: Path) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent, ...; [] for one gone."""
    return _read(folder / "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile, or is another user's
        return b""


def main(arguments: list[str]) -> int:
    """Check one service."""
    if len(arguments) != 1 or arguments[0] not in KINDS:
        print(f"give one of {', '.join(KINDS)}", file=sys.stderr)
        return 2
    problem = problem_of(arguments[0], Settings.from_env())
    if problem is not None:
        print(problem)
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
