"""Unreadable: jobs that cannot be read while somebody waits for them. Said once, given up later."""

from __future__ import annotations

import time
from collections.abc import Callable

from playmill.errors import JobUnreadable

GIVE_UP_S = 60.0
"""A disk or a mount gets this long to recover; what is damaged stays so."""


class Unreadable:
    """Which jobs cannot be read, and since when."""

    def __init__(self, say: Callable[[str], object], *, give_up_s: float = GIVE_UP_S) -> None:
        self._say = say
        self._give_up_s = give_up_s
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def note(self, error: JobUnreadable) -> None:
        """Note that a job could not be read; say so the first time."""
        if error.job_id not in self._since:
            self._since[error.job_id] = time.monotonic()
            self._say(str(error))

    def was_read(self, job_id: str) -> None:
        """Note that a job can be read (again)."""
        self._since.pop(job_id, None)

    def is_given_up(self, job_id: str) -> bool:
        """Say whether a job could not be read for so long that nobody waits for it any more."""
        since_s = self._since.get(job_id)
        return since_s is not None and time.monotonic() - since_s >= self._give_up_s
