"""Failpoints: named places where a test can make this process die, stop, fail or wait.

Code says `reached("extract:before-commit")` as it passes one. Unless somebody armed that name,
that is the look-up of a name in an empty dictionary. Knows no environment.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_armed: dict[str, Callable[[], None]] = {}


def reached(name: str) -> None:
    """Do what the failpoint was armed with; nothing if it was not."""
    action = _armed.get(name)
    if action is not None:
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Do `action` each time `name` is reached in this process."""
    _armed[name] = action


def disarm() -> None:
    """Forget all that was armed in this process."""
    _armed.clear()


@dataclass(frozen=True, slots=True)
class Failpoint:
    """What is to happen at one failpoint, and how often in all processes together."""

    name: str
    action: str
    """"kill9", "stop" (until SIGCONT), "error" (an OSError) or "sleep=SECONDS"."""
    times: int = 1
    folder: Path | None = None
    """Counts what has happened, for all processes that see it; None: each counts for itself."""

    @classmethod
    def parse(cls, text: str, folder: Path | None = None) -> Failpoint:
        """Read "name:action" or "name:action:times"; the name may have colons itself.

        Raises:
            ValueError: it is neither.
        """
        words = text.split(":")
        times = int(words.pop()) if words[-1].isdecimal() else 1
        if len(words) < 2 or not _is_action(words[-1]):
            raise ValueError(f"{text!r} is no failpoint: name:action[:times]")
        return cls(":".join(words[:-1]), words[-1], times, folder)

    def arm(self) -> None:
        """Let it happen in this process too."""
        left = iter(range(self.times))

        def action() -> None:
            if self.take() if self.folder is not None else next(left, None) is not None:
                self._happen()

        arm(self.name, action)

    def take(self) -> bool:
        """Count one time, in all processes; say whether there was one left."""
        return any(_created(path) for path in self.marks)

    @property
    def marks(self) -> list[Path]:
        """The files that say that it has happened, one for each time."""
        assert self.folder is not None
        return [self.folder / f"{self.name}.{number}" for number in range(self.times)]

    def _happen(self) -> None:
        kind, _, value = self.action.partition("=")
        if kind == "kill9":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif kind == "sleep":
            time.sleep(float(value))
        else:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"failpoint {self.name}")


def _is_action(text: str) -> bool:
    kind, _, seconds = text.partition("=")
    if kind == "sleep":
        return seconds.replace(".", "", 1).isdecimal()
    return text in ("kill9", "stop", "error")


def _created(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
