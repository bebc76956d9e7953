"""The processes of a mill: started, watched, started again, and stopped. Never left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from playmill.errors import PlaymillError
from tasks.queues import served_by

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent
"""Folder that holds workers/, tasks/ and playmill/."""
MAX_DEATHS = 5
"""Deaths of one process within DEATHS_WITHIN_S after which the mill gives up."""
DEATHS_WITHIN_S = 60.0


class MillBroken(PlaymillError):
    """A process of the mill dies again and again; the argument says which, and where its log is."""


def worker_command(
    kind: str, *, name: str, device: str = "cpu", log_level: str = "INFO"
) -> list[str]:
    """Return the command of a Celery worker.

    Args:
        kind: "gpu" (extracts) or "cpu" (ingests, consolidates).
        device: what an extracting worker computes on, "cpu" or "cuda".
    """
    queues = ",".join(served_by(kind, device=device))
    return [
        *(sys.executable, "-m", "celery", "--quiet", "-A", f"workers.{kind}", "worker"),
        *("-Q", queues, "-P", "prefork", "-c", "1", "-n", f"{name}@%h", "-l", log_level),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


@dataclass(slots=True)
class Process:
    """One process of the mill, in a session of its own, on a lifeline."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    log_file: Path | None = None
    """Where its output goes, at the end; None: to ours."""
    running: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start the command."""
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log_file.open("ab")) if self.log_file else None
            self.running = subprocess.Popen(
                [sys.executable, "-m", "workers.lifeline", *self.command],
                # The write end stays with us: it closes when we die, by whatever means.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.env, "PYTHONPATH": python_path()},
                start_new_session=True,
                # A folder with a tasks.py of its own would come before ours on the path.
                cwd=PROJECT,
            )

    def alive(self) -> bool:
        """Say whether the process runs."""
        return self.running is not None and self.running.poll() is None

    def revive(self) -> bool:
        """Start the process again if it has died; say whether it had.

        Raises:
            MillBroken: it dies again and again.
        """
        if self.alive():
            return False
        now = time.monotonic()
        self.deaths = [when for when in self.deaths if now - when < DEATHS_WITHIN_S] + [now]
        if len(self.deaths) >= MAX_DEATHS:
            raise MillBroken(
                f"{self.name} died {len(self.deaths)} times in {DEATHS_WITHIN_S:.0f} s;"
                f" its log: {self.log_file or 'above'}"
            )
        log.warning("%s died and is started again", self.name)
        self.kill()
        self.start()
        return True

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the command: a worker ends its task first."""
        if self.running is not None:
            self.running.terminate()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; say whether it came."""
        if self.running is None:
            return True
        try:
            self.running.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill the process's whole group and close the lifeline."""
        if self.running is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait()
        if self.running.stdin is not None:
            self.running.stdin.close()


def python_path() -> str:
    """Return the PYTHONPATH with which a child finds workers/, tasks/ and playmill/."""
    inherited = os.environ.get("PYTHONPATH")
    return str(PROJECT) if not inherited else f"{PROJECT}{os.pathsep}{inherited}"
