"""Unreadable: jobs that cannot be read while somebody waits for them. Said once, given up later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from playmill.errors import JobUnreadable
from playmill.jobs import OPEN_STATES, JobFacts, state_of
from playmill.store import Store

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

    def look(
        self, store: Store, job_ids: Iterable[str], *, running: frozenset[str] = frozenset()
    ) -> list[JobFacts]:
        """Return what is known of the jobs that can be read; note the others.

        Args:
            running: as for `Store.facts`.
        """
        known = []
        for job_id in job_ids:
            try:
                known.append(store.facts(job_id, running=running))
            except JobUnreadable as error:
                self.note(error)
        return known

    def still_open(self, job_ids: Iterable[str], known: Iterable[JobFacts]) -> list[str]:
        """Return the jobs that are worth another look: one that cannot be read gets some.

        Args:
            known: what was read of them just now.
        """
        ended = set()
        for facts in known:
            self._since.pop(facts.job_id, None)
            if state_of(facts) not in OPEN_STATES:
                ended.add(facts.job_id)
        return [
            job_id for job_id in job_ids if job_id not in ended and not self._is_given_up(job_id)
        ]

    def _is_given_up(self, job_id: str) -> bool:
        since_s = self._since.get(job_id)
        return since_s is not None and time.monotonic() - since_s >= self._give_up_s
