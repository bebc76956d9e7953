"""Nightly: runs that are claimed once, on the store, and end in a report. Knows no clock, no queue.

Everything takes the time as an argument, may be done by any number of processes at once, and may
be killed anywhere: what a run found is written in one file, which is also its claim, and all that
follows is done again from it until its report is there.

    nightly/since-<digest>.json           when a schedule was first seen: nothing before it is due
            <nominal>.json                the claim: what was found, and the requests to be made
            <nominal>.submitted.json      all of them were submitted
            <nominal>.reported.json       its report is in the datasets folder

In the datasets folder, reports/nightly-<nominal>.json and .txt, and until they can be written
nightly-<nominal>.so-far.json and .txt.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playmill import failpoints
from playmill.config import digest_of
from playmill.jobs import Request
from playmill.markers import put_if_absent, read_json
from playmill.markers import replace as replace_json
from playmill.nights.crontab import Crontab
from playmill.nights.inbox import Findings
from playmill.nights.report import NightReport, Row, ending_of, read_row
from playmill.store import Store

log = logging.getLogger(__name__)

_CLAIM = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z)\.json")
_FORM = "%Y-%m-%dT%H%M%SZ"
REPORTS = "reports"
"""Folder of reports, in the datasets folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """One run, as it was claimed."""

    nominal_s: int
    """Unix time that it stands for: that of the schedule, however late it began."""
    started_s: float
    found: Mapping[str, int]
    """Recordings by inbox."""
    known: int
    """Recordings of these that had a job already."""
    requests: tuple[Request, ...]
    skipped: tuple[tuple[str, str], ...]
    """New or changed, and left for another night: recording and reason."""
    problems: tuple[str, ...]
    lone_logs: tuple[tuple[str, str], ...] = ()
    """Input logs without a video, which are no recordings: path and what to do."""

    @property
    def name(self) -> str:
        """The nominal time in UTC, as files are called after it: 2026-11-22T020000Z."""
        return datetime.fromtimestamp(self.nominal_s, UTC).strftime(_FORM)

    @classmethod
    def of(cls, findings: Findings, *, nominal_s: int, started_s: float) -> Night:
        """Make a run of what was found in the inboxes."""
        # Two recordings never share a job id, but one may be found by two names of its root.
        requests = {request.job_id: request for request in findings.requests}
        return cls(
            nominal_s=nominal_s,
            started_s=started_s,
            found=findings.found,
            known=findings.known,
            requests=tuple(requests.values()),
            skipped=tuple(findings.skipped),
            problems=tuple(findings.problems),
            lone_logs=tuple(findings.lone_logs),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` is the inverse."""
        return {
            "version": 1,
            "nominal_s": self.nominal_s,
            "started_s": self.started_s,
            "found": dict(self.found),
            "known": self.known,
            "requests": [request.to_json() for request in self.requests],
            "skipped": [list(item) for item in self.skipped],
            "problems": list(self.problems),
            "lone_logs": [list(item) for item in self.lone_logs],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Night:
        """Build a run from `to_json`'s object."""
        return cls(
            nominal_s=value["nominal_s"],
            started_s=value["started_s"],
            found=value["found"],
            known=value["known"],
            requests=tuple(Request.from_json(request) for request in value["requests"]),
            skipped=tuple((recording, why) for recording, why in value["skipped"]),
            problems=tuple(value["problems"]),
            lone_logs=tuple((log, why) for log, why in value.get("lone_logs", ())),
        )


def _folder(store: Store) -> Path:
    return store.root / "nightly"


def _claim_path(store: Store, nominal_s: int) -> Path:
    return _folder(store) / f"{datetime.fromtimestamp(nominal_s, UTC).strftime(_FORM)}.json"


def note_schedule(store: Store, crontab: Crontab, *, now_s: float) -> float:
    """Return since when this schedule is known; that is now if it was unknown."""
    digest = digest_of(crontab.text, crontab.zone.key)
    path = _folder(store) / f"since-{digest[:16]}.json"
    value = read_json(path)
    if value is None:
        put_if_absent(path, {"crontab": crontab.text, "zone": crontab.zone.key, "since_s": now_s})
        value = read_json(path) or {"since_s": now_s}
    return float(value["since_s"])


def due(store: Store, crontab: Crontab, *, now_s: float) -> int | None:
    """Return the nominal time that a run is due for now; None: for none.

    It is the latest one, so that a week without power is made up for by one run; and none before
    the schedule was first seen, so that setting one up starts nothing.
    """
    since_s = note_schedule(store, crontab, now_s=now_s)
    nominal_s = crontab.latest(now_s)
    if nominal_s is None or nominal_s <= since_s or _claim_path(store, nominal_s).exists():
        return None
    return nominal_s


def claim(store: Store, night: Night) -> Night:
    """Claim a nominal time with what was found; return the claim that counts: the first."""
    path = _claim_path(store, night.nominal_s)
    return night if put_if_absent(path, night.to_json()) else _read(path)


def open_nights(store: Store) -> Iterator[Night]:
    """Yield the runs without a report, the oldest first."""
    try:
        names = set(os.listdir(_folder(store)))
    except FileNotFoundError:
        return
    for name in sorted(names):
        found = _CLAIM.fullmatch(name)
        if not found or f"{found[1]}.reported.json" in names:
            continue
        try:
            yield _read(_folder(store) / name)
        except (ValueError, KeyError, TypeError, OSError) as error:
            # Written by another version, or damaged: it must not stop the other runs.
            log.error("nightly run %s cannot be read: %s", found[1], error)


def _read(path: Path) -> Night:
    value = read_json(path)
    if value is None:
        raise FileNotFoundError(f"{path} has gone")
    return Night.from_json(value)


def submit(store: Store, night: Night) -> int:
    """Submit what a run found and nobody has submitted meanwhile; return how many that were.

    Once begun it is gone on with, by whoever comes next; done once, it is never done again.
    """
    marker = _folder(store) / f"{night.name}.submitted.json"
    if marker.exists():
        return 0
    new = [request for request in night.requests if not is_known(store, request.job_id)]
    for request in new:
        store.submit(request)
        failpoints.reached("nightly:one-submitted")
    failpoints.reached("nightly:all-submitted")
    put_if_absent(marker, {"submitted": len(night.requests)})
    return len(new)


def is_known(store: Store, job_id: str) -> bool:
    """Say whether a job was ever submitted."""
    return (store.job_folder(job_id) / "request.json").exists()


def finish(store: Store, night: Night, *, datasets: Path, now_s: float) -> NightReport | None:
    """Write a run's report once all its jobs have ended; None while one has not.

    The report is written once, under `datasets`/reports/; a second call returns the same.
    """
    if not (_folder(store) / f"{night.name}.submitted.json").exists():
        return None
    if any(ending_of(store, request.job_id) is None for request in night.requests):
        return None
    base = datasets / REPORTS / f"nightly-{night.name}"
    rows = [read_row(store, request) for request in night.requests]
    put_if_absent(base.with_suffix(".json"), _report(night, rows, now_s=now_s).to_json())
    failpoints.reached("nightly:reported")
    # Another may have been first; the text is that of the report that counts.
    value = read_json(base.with_suffix(".json"))
    if value is None:
        return None
    report = NightReport.from_json(value)
    report.write_text(base.with_suffix(".txt"))
    for path in _so_far(base):
        path.unlink(missing_ok=True)
    put_if_absent(_folder(store) / f"{night.name}.reported.json", {"report": base.name})
    return report


def report_so_far(
    store: Store,
    night: Night,
    *,
    datasets: Path,
    why: Callable[[str], str | None],
    now_s: float,
) -> NightReport:
    """Write what has become of a run whose jobs have not all ended; return it.

    Args:
        why: says of an open job what keeps it from going on; None: nothing that is known of.
    """
    rows = [read_row(store, request, why=why) for request in night.requests]
    report = replace(_report(night, rows, now_s=now_s), ended_s=max(now_s, night.started_s))
    json_path, text_path = _so_far(datasets / REPORTS / f"nightly-{night.name}")
    replace_json(json_path, report.to_json())
    report.write_text(text_path)
    return report


def _so_far(base: Path) -> tuple[Path, Path]:
    return base.with_suffix(".so-far.json"), base.with_suffix(".so-far.txt")


def _report(night: Night, rows: list[Row], *, now_s: float) -> NightReport:
    known_ends = [row.ended_s for row in rows if row.ended_s is not None]
    ended_s = max(known_ends) if known_ends else now_s
    return NightReport(
        nominal_s=night.nominal_s,
        started_s=night.started_s,
        ended_s=max(ended_s, night.started_s),
        found=night.found,
        known=night.known,
        jobs=tuple(rows),
        skipped=night.skipped,
        problems=night.problems,
        lone_logs=night.lone_logs,
    )
