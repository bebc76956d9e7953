"""NightReport: what a nightly run found and what became of it, as data and as text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from playmill.errors import JobUnreadable
from playmill.jobs import Request
from playmill.markers import replace_text
from playmill.phrases import labelled, plural
from playmill.store import Store

Ending = Literal["published", "failed", "cancelled", "removed"]
State = Literal[Ending, "open", "unreadable"]
ENDINGS: tuple[Ending, ...] = ("published", "failed", "cancelled")
"""How a job ends, by its markers; where there are several, the first counts."""
STATES: tuple[State, ...] = (*ENDINGS, "removed", "unreadable", "open")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What became, so far, of one recording that a run submitted."""

    recording: str
    """Name of its root, colon, path."""
    session_id: str | None
    job_id: str
    state: State
    """"removed": the job has been deleted from the store; "open": it has not ended;
    "unreadable": what the store holds about it cannot be read."""
    dataset: str | None = None
    """Relative to the datasets folder."""
    frames: int = 0
    """Frames published."""
    seconds: float = 0.0
    """Length of its video, if it was published."""
    error: str | None = None
    """Why it failed, was cancelled, waits or cannot be read; None of an open one: it goes on."""
    ended_s: float | None = None
    """Unix time, where it is known."""
    warnings: tuple[str, ...] = ()
    """Of its dataset, if it was published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NightReport:
    """One nightly run from its beginning to the end of its last job, or as far as it has come."""

    nominal_s: int
    """Unix time that the run stands for."""
    started_s: float
    ended_s: float
    """End of the last job; without jobs, or while one is open, the time of the report."""
    found: Mapping[str, int]
    """Recordings by inbox."""
    known: int
    """Recordings of these that had a job already."""
    jobs: tuple[Row, ...]
    skipped: tuple[tuple[str, str], ...]
    """New or changed, and left for another night: recording and reason."""
    problems: tuple[str, ...]
    """What a person should mend, beside failed recordings."""
    lone_logs: tuple[tuple[str, str], ...] = ()
    """Input logs without a video, which are no recordings: path and what to do."""

    def rows(self, state: State) -> list[Row]:
        """Return the jobs in this state."""
        return [row for row in self.jobs if row.state == state]

    @property
    def frames(self) -> int:
        """Frames published."""
        return sum(row.frames for row in self.jobs)

    @property
    def hours(self) -> float:
        """Hours of video published."""
        return sum(row.seconds for row in self.jobs) / 3600

    @property
    def frames_per_s(self) -> float | None:
        """Frames published in a second of the run, waiting included; None without frames."""
        return self.frames / max(self.ended_s - self.started_s, 1e-3) if self.frames else None

    @property
    def troubled(self) -> bool:
        """Something failed, waits for what nobody can do, or is for a person to mend."""
        bad = self.rows("failed") + self.rows("unreadable")
        return bool(self.problems or bad or self.waiting)

    @property
    def waiting(self) -> list[Row]:
        """The jobs that do not go on, with the reason."""
        return [row for row in self.rows("open") if row.error]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with sums for people; `from_json` is the inverse."""
        rate = self.frames_per_s
        return {
            "version": 1,
            "nominal": _iso(self.nominal_s),
            "nominal_s": self.nominal_s,
            "started_s": self.started_s,
            "ended_s": self.ended_s,
            "found": dict(self.found),
            "known": self.known,
            "new": len(self.jobs) + len(self.skipped),
            "submitted": len(self.jobs),
            **{state: len(self.rows(state)) for state in STATES},
            "hours": round(self.hours, 4),
            "frames": self.frames,
            "frames_per_s": None if rate is None else round(rate, 2),
            "jobs": [asdict(row) for row in self.jobs],
            "skipped": [{"recording": name, "why": why} for name, why in self.skipped],
            "problems": list(self.problems),
            "lone_logs": [{"log": name, "why": why} for name, why in self.lone_logs],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> NightReport:
        """Build a report from `to_json`'s object."""
        names = ("nominal_s", "started_s", "ended_s", "found", "known")
        return cls(
            **{name: value[name] for name in names},
            jobs=tuple(
                Row(**row | {"warnings": tuple(row.get("warnings", ()))}) for row in value["jobs"]
            ),
            skipped=tuple((item["recording"], item["why"]) for item in value["skipped"]),
            problems=tuple(value["problems"]),
            lone_logs=tuple((item["log"], item["why"]) for item in value.get("lone_logs", ())),
        )

    def text(self) -> str:
        """Return the report for people."""
        shown = (
            *ENDINGS,
            *(state for state in STATES if state not in ENDINGS and self.rows(state)),
        )
        counts = [f"{len(self.rows(state))} {state}" for state in shown]
        lines = [
            f"Nightly run of {_iso(self.nominal_s)}",
            f"{plural(sum(self.found.values()), 'recording')} found, {self.known} of them known;"
            f" {len(self.jobs) + len(self.skipped)} new or changed, {len(self.jobs)} submitted:"
            f" {', '.join(counts)}",
        ]
        if self.frames_per_s is not None:
            hours = (self.ended_s - self.started_s) / 3600
            lines.append(
                f"{self.hours:.2f} h of video, {plural(self.frames, 'frame')} in {hours:.2f} h"
                f" ({self.frames_per_s:.1f} frames/s)"
            )
        lines += [f"inbox {inbox}: no recording in it" for inbox, n in self.found.items() if not n]
        lines += [f"problem: {_shown(problem)}" for problem in self.problems]
        for state in (*STATES[1:], STATES[0]):
            for row in self.rows(state):
                what = row.error or "it goes on"
                if state == "published":
                    what = f"{plural(row.frames, 'frame')}, {row.dataset}"
                lines.append(_shown(f"{state}: {row.recording}: {what}"))
                lines += [_shown(f"  {labelled(warning)}") for warning in row.warnings]
        lines += [_shown(f"not taken tonight: {name}: {why}") for name, why in self.skipped]
        lines += [_shown(f"no recording: {name}: {why}") for name, why in self.lone_logs]
        return "\n".join(lines) + "\n"

    def write_text(self, path: Path) -> None:
        """Write `text()` to a file, whole at every moment."""
        replace_text(path, self.text())


def ending_of(store: Store, job_id: str) -> Ending | None:
    """Return how a job that was submitted has ended; None: it goes on."""
    folder = store.job_folder(job_id)
    for name in ENDINGS:
        if os.path.exists(folder / f"{name}.json"):
            return name
    # Not "removed" where the folder may not be looked into.
    return "removed" if _is_absent(folder / "request.json") else None


def _is_absent(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def read_row(
    store: Store, request: Request, *, why: Callable[[str], str | None] = lambda _: None
) -> Row:
    """Return what has become of a job.

    Args:
        why: says of an open job what keeps it from going on; None: nothing that is known of.
    """
    row = Row(
        recording=str(request.recording),
        session_id=request.session_id,
        job_id=request.job_id,
        state="open",
    )
    try:
        with store.reading(request.job_id):
            if ending_of(store, request.job_id) is None:
                return replace(row, error=why(request.job_id))
            return _ended_row(store, request)
    except JobUnreadable as error:
        return replace(row, state="unreadable", error=str(error))


def _ended_row(store: Store, request: Request) -> Row:
    state = ending_of(store, request.job_id) or "removed"
    marker = {} if state == "removed" else store.ending(request.job_id, state) or {}
    reason = marker.get("reason")
    row = Row(
        recording=str(request.recording),
        session_id=marker.get("session_id", request.session_id),
        job_id=request.job_id,
        state=state,
        error="its job was deleted from the store" if state == "removed" else reason,
        ended_s=marker.get("failed_s"),
    )
    if state != "published":
        return row
    return Row(
        **asdict(row)
        | {
            "dataset": marker["dataset"],
            "frames": marker["frames"],
            "seconds": _video_seconds(store, request.job_id),
            "ended_s": marker["published_s"],
            "warnings": tuple(marker.get("warnings", ())),
        }
    )


def _video_seconds(store: Store, job_id: str) -> float:
    """Return the length of a job's video by its plan; 0 where the plan cannot be read."""
    try:
        manifest = store.manifest(job_id)
    except (ValueError, KeyError, TypeError):  # of another version
        manifest = None
    if manifest is None or not manifest.chunks:
        return 0.0
    ticks = manifest.chunks[-1].stop_pts - manifest.chunks[0].start_pts
    return float(ticks * manifest.time_base)


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(text: str) -> str:
    """Write names, which are data, on one line: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
