"""Progress on stderr: bars where there is a terminal, a line at each change where there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from playmill.jobs import OPEN_STATES, JobFacts, State, state_of
from playmill.phrases import plural, time_left

MAX_BARS = 12
"""Recordings shown at a time; a backlog is shown by its sum."""
SUM_S = 60.0
"""How often the sum is said where no bar shows it."""


def names_of(paths: Mapping[str, str]) -> dict[str, str]:
    """Return short names that tell recordings apart: their paths below what all of them share.

    The last folder that they share stays, so that a lone `video.mp4` says whose it is.

    Args:
        paths: by job, with slashes.
    """
    if not paths:
        return {}
    folders = [str(PurePosixPath(path).parent) for path in paths.values()]
    shared = len(PurePosixPath(os.path.commonpath(folders)).parts)
    return {
        job_id: str(PurePosixPath(*PurePosixPath(path).parts[max(shared - 1, 0) :]))
        for job_id, path in paths.items()
    }


def frames_done(facts: JobFacts) -> tuple[int, int]:
    """Return (extracted, expected) frames of a job; (0, 0) before it is planned."""
    if facts.plan is None:
        return 0, 0
    frames = facts.plan.chunk_frames
    return sum(frames[index] for index in facts.committed), sum(frames)


class ProgressView:
    """Shows the jobs of one run while they go on."""

    def __init__(
        self, names: Mapping[str, str], console: Console, *, with_reasons: bool = False
    ) -> None:
        """Show the jobs of `names`.

        Args:
            with_reasons: say why one failed; for commands that print no result at their end.
        """
        self._with_reasons = with_reasons
        self._names = names
        self._console = console
        self._states: dict[str, State] = {}
        self._frames: dict[str, tuple[int, int]] = {}
        self._first: dict[str, int] = {}
        self._started: float | None = None
        self._counted, self._counted_at, self._rate = 0, 0.0, 0.0
        self._bars: dict[str, TaskID] = {}
        self._said: set[str] = set()
        self._summed_at = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> ProgressView:
        self._progress.start()
        self._total = self._progress.add_task("all", total=None, detail="starting workers")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, known: Sequence[JobFacts]) -> None:
        """Show what is known now of the jobs that were open."""
        for facts in known:
            state = state_of(facts)
            self._frames[facts.job_id] = frames_done(facts)
            self._first.setdefault(facts.job_id, self._frames[facts.job_id][0])
            if state == "queued" and facts.job_id in self._states:
                # Planned, and nobody at it for a moment: no step back worth a word.
                state = self._states[facts.job_id]
            if state != self._states.get(facts.job_id):
                self._states[facts.job_id] = state
                self._tell(facts, state)
            self._draw(facts, state)
        self._measure()
        self._progress.update(
            self._total,
            total=sum(total for _, total in self._frames.values()) or None,
            completed=sum(done for done, _ in self._frames.values()),
            detail=self.detail(),
        )
        if not self._console.is_terminal and time.monotonic() - self._summed_at >= SUM_S:
            self._summed_at = time.monotonic()
            self._print(self.detail())

    def say(self, line: str) -> None:
        """Show a line for people above the progress."""
        self._print(line)

    def hint(self, lines: Iterable[str]) -> None:
        """Show what keeps jobs from going on, each line once."""
        for line in lines:
            # The number at its beginning changes with every job that is planned.
            what = line.partition(": ")[2]
            if what not in self._said:
                self._said.add(what)
                self._print(line)

    def _print(self, line: str) -> None:
        """Print a line, with the time where it goes to a file that may be read much later."""
        stamp = "" if self._console.is_terminal else time.strftime("%H:%M:%S ")
        self._console.print(stamp + line, markup=False, highlight=False, soft_wrap=True)

    def detail(self) -> str:
        """Return the line under the sum: ended recordings, frames/s, time left."""
        ended = sum(state not in OPEN_STATES for state in self._states.values())
        text = f"{ended}/{plural(len(self._names), 'recording')}"
        if not self._rate:
            return text
        left = sum(total - done for done, total in self._frames.values())
        left_s = max(0.0, left / self._rate - (time.monotonic() - self._counted_at))
        return f"{text}, {self._rate:.1f} frames/s, {time_left(left_s)} left"

    def _measure(self) -> None:
        """Take frames/s since the first chunk of this run was begun, at each chunk that ends.

        Between two ends nothing is counted: a rate taken then would fall until the next.
        """
        now = time.monotonic()
        done = sum(done - self._first[job_id] for job_id, (done, _) in self._frames.items())
        if self._started is None:
            if any(state == "extracting" for state in self._states.values()):
                self._started = now
        elif done > self._counted:
            self._counted, self._counted_at = done, now
            self._rate = done / max(now - self._started, 1e-9)

    def _tell(self, facts: JobFacts, state: State) -> None:
        if state == "queued" or (self._console.is_terminal and state in OPEN_STATES):
            return
        text = f"{self._names[facts.job_id]}: {state}"
        if facts.failed is not None and self._with_reasons:
            text += f": {facts.failed}"
        self._print(text)

    def _draw(self, facts: JobFacts, state: State) -> None:
        bar = self._bars.get(facts.job_id)
        if state not in OPEN_STATES:
            if bar is not None:
                self._progress.remove_task(self._bars.pop(facts.job_id))
            return
        if bar is None and state != "queued" and len(self._bars) < MAX_BARS:
            bar = self._progress.add_task(self._names[facts.job_id], total=None, detail="")
            self._bars[facts.job_id] = bar
        if bar is not None and facts.plan is not None:
            done, total = self._frames[facts.job_id]
            chunks = f"{len(facts.committed)}/{plural(len(facts.plan.chunk_frames), 'chunk')}"
            self._progress.update(bar, completed=done, total=total, detail=f"{state}, {chunks}")
