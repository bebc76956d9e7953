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
DEATHS_WITHIN_S = 60.0
"""How long a death is remembered."""
MAX_PAUSE_S = 30.0


class MillBroken(PlaymillError):
    """A process of the mill dies again and again; the argument says which, and where its log is."""


def pause_s(num_deaths: int) -> float:
    """Return how long a process that died so often of late stays dead: 0, 1, 2, 4, ... s.

    What dies once goes on at once; what dies as soon as it is started keeps nobody busy.
    """
    return min(2.0 ** (num_deaths - 2), MAX_PAUSE_S) if num_deaths > 1 else 0.0


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
        # What a killed worker leaves of semaphores, its helper frees, and need not tell.
        *(sys.executable, "-W", "ignore:semaphore_tracker"),
        *("-m", "celery", "--quiet", "-A", f"workers.{kind}", "worker"),
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
    """When it died of late, by the monotonic clock."""
    _again_s: float | None = None
    """When it is to be started again, if it is dead."""

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

    @property
    def status(self) -> int | None:
        """Exit status of a process that has ended: 128 and the signal of one that was killed."""
        return None if self.running is None else self.running.poll()

    def revive(self, *, give_up_after: int | None = None) -> None:
        """Start the process again if it has died, after a pause that grows with its deaths.

        Raises:
            MillBroken: it has died `give_up_after` times of late.
        """
        if self.alive():
            return
        now = time.monotonic()
        if self._again_s is None:
            self.deaths = [when for when in self.deaths if now - when < DEATHS_WITHIN_S] + [now]
            if give_up_after is not None and len(self.deaths) >= give_up_after:
                raise MillBroken(
                    f"{self.name} died {len(self.deaths)} times in {DEATHS_WITHIN_S:.0f} s;"
                    f" its log: {self.log_file or 'above'}"
                )
            pause = pause_s(len(self.deaths))
            self._again_s = now + pause
            when = f"in {pause:.0f} s" if pause else "at once"
            log.warning("%s has ended (%s): started again %s", self.name, self._how(), when)
            self.kill()
        if now >= self._again_s:
            self._again_s = None
            self.start()

    def _how(self) -> str:
        status = self.status
        if status is None:
            return "never begun"
        number = -status if status < 0 else status - 128
        if number in set(signal.Signals):
            return f"by {signal.Signals(number).name}"
        return f"exit status {status}"

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
