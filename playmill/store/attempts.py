"""The tries of a step, counted on the store: the loss of the queue does not change the count.

<prefix>.<n>.json          try n was begun, by whom; its time of change is a sign of life
<prefix>.<n>.failed.json   why it failed
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from playmill.errors import PlaymillError
from playmill.jobs import MAX_ATTEMPTS, Attempts
from playmill.markers import put_if_absent, read_json


@dataclass(frozen=True, slots=True)
class StepAttempts:
    """The tries of one step."""

    prefix: Path
    """Folder and beginning of the names of their files."""
    job_id: str
    """The job on whose behalf the step is tried."""

    def begin(self, *, who: str) -> str | None:
        """Count a new try; return its name, or None when there were enough."""
        token = secrets.token_hex(4)
        for number in range(1, MAX_ATTEMPTS + 1):
            begun = {"who": who, "started_s": time.time(), "attempt": f"{number}-{token}"}
            if put_if_absent(self.prefix.parent / f"{self.prefix.name}.{number}.json", begun):
                return f"{number}-{token}"
        return None

    def touch(self, attempt: str) -> None:
        """Give a sign of life: the try goes on, whatever has become of its lease."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.begun_path(attempt))

    def begun_path(self, attempt: str) -> Path:
        """Return the file that counts a try; its time of change is the last sign of life."""
        return self.prefix.parent / f"{self.prefix.name}.{attempt.partition('-')[0]}.json"

    def counts(self, attempt: str) -> bool:
        """Say whether a try still counts: nobody has dropped the parts since it began."""
        return (read_json(self.begun_path(attempt)) or {}).get("attempt") == attempt

    def take_back(self, attempt: str) -> None:
        """Let a try not count: whoever began it cannot do the step, and leaves it to others."""
        if self.counts(attempt):
            self.begun_path(attempt).unlink(missing_ok=True)

    def fail(self, attempt: str, error: Exception, *, hopeless: bool) -> None:
        """Record why a try failed, unless attempts have been forgotten since it began."""
        if not self.counts(attempt):
            return
        known = isinstance(error, PlaymillError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        put_if_absent(
            self.begun_path(attempt).with_suffix(".failed.json"),
            {
                "error": reason,
                "hopeless": hopeless,
                "failed_s": time.time(),
                "job_id": self.job_id,
            },
        )


def attempts_in(folder: Path, *, job_id: str) -> dict[str, Attempts]:
    """Return the attempts of every step that has any in `folder`, by file name prefix.

    Jobs that share parts share the count of tries; but what is hopeless for another job (its
    file has gone, or changed) need not be so for `job_id`.
    """
    begun, failed = _last_tries(folder)
    found: dict[str, Attempts] = {}
    for prefix, count in begun.items():
        last = failed.get(prefix, 0)
        value = read_json(folder / f"{prefix}.{last}.failed.json") if last == count else None
        if value is None:
            # Only a last try is asked for signs of life; a look at every file would be slow.
            last_try = count >= MAX_ATTEMPTS
            seen_s = _changed_s(folder / f"{prefix}.{count}.json") if last_try else 0.0
            found[prefix] = Attempts(begun=count, seen_s=seen_s)
            continue
        found[prefix] = Attempts(
            begun=count,
            failed_at_s=value["failed_s"],
            error=value["error"],
            hopeless=value["hopeless"] and value["job_id"] == job_id,
        )
    return found


def _last_tries(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of the last try that was begun, and of the last that failed, by prefix."""
    begun: dict[str, int] = {}
    failed: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            prefix, _, rest = name.partition(".")
            number, _, kind = rest.partition(".")
            if not prefix or not number.isdigit():
                continue
            counts = failed if kind == "failed.json" else begun
            counts[prefix] = max(counts.get(prefix, 0), int(number))
    return begun, failed


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
