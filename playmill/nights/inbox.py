"""Inbox: which recordings in some folders are new or changed, and which are still being written.

Looks at names, sizes and times; opens session.json and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from playmill.errors import UsageError
from playmill.jobs import Request
from playmill.recording.discovery import discover
from playmill.recording.lone_logs import LoneLog

TEMPORARY_SUFFIXES = (
    *(".part", ".partial", ".filepart", ".crdownload", ".download", ".aria2", ".tmp", ".temp"),
    "~",
)
"""Ends of the names that browsers, copying programs and editors give to what is not whole yet."""
HARMLESS_NAMES = frozenset((".DS_Store", ".directory", ".localized"))
"""Hidden files that file managers leave in every folder."""
_HARMLESS_PREFIXES = ("._", ".nfs")
"""What macOS keeps beside a file on a foreign disk; what NFS keeps of a removed one."""
_LOG_NAME = "inputs.jsonl"


@dataclass(kw_only=True, slots=True)
class Findings:
    """What lies in some inboxes at one moment."""

    found: dict[str, int] = field(default_factory=dict)
    """Recordings by inbox; each is counted in the first inbox that has it."""
    known: int = 0
    """Recordings that have a job already, whatever has become of it."""
    requests: list[Request] = field(default_factory=list)
    """Of what is new or changed, and finished."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """What is new or changed and not finished: recording and reason."""
    problems: list[str] = field(default_factory=list)
    """What a person should mend."""
    lone_logs: list[tuple[str, str]] = field(default_factory=list)
    """Input logs without a video, which are no recordings: path and what to do."""

    def add_lone(self, lone: LoneLog) -> None:
        """Note a log that no video lies beside, yet, unless another inbox has it."""
        entry = (str(lone.path), lone.why)
        if entry not in self.lone_logs:
            self.lone_logs.append(entry)


def look(
    inboxes: Iterable[Path],
    *,
    make_request: Callable[[Path], Request],
    is_known: Callable[[str], bool],
    now_s: float,
    settle_s: float,
    skip: Iterable[Path] = (),
) -> Findings:
    """Look through the inboxes; nothing in them stops the look.

    Args:
        make_request: writes down what is wanted of a recording, as it is now.
        is_known: says whether a job id is on the store.
        now_s: Unix time.
        settle_s: a recording is finished when nothing in it has changed for so long.
        skip: folders that are not searched.
    """
    findings = Findings()
    seen: set[Path] = set()
    # Recordings come folder by folder: a folder full of videos is listed once.
    temporary_in = lru_cache(maxsize=4)(temporary_names)
    skip = tuple(skip)
    for inbox in inboxes:
        found = [path for path in _search(inbox, skip, findings) if path not in seen]
        seen.update(found)
        findings.found[str(inbox)] = findings.found.get(str(inbox), 0) + len(found)
        for path in found:
            try:
                request = make_request(path)
                if is_known(request.job_id):
                    findings.known += 1
                    continue
                why = why_unfinished(path, request, temporary_in, now_s=now_s, settle_s=settle_s)
            except FileNotFoundError:
                findings.skipped.append((str(path), "it has gone since it was found"))
            except (OSError, UsageError) as error:
                findings.problems.append(f"{path}: {error}")
            else:
                if why is None:
                    findings.requests.append(request)
                else:
                    findings.skipped.append((str(request.recording), why))
    return findings


def _search(inbox: Path, skip: Iterable[Path], findings: Findings) -> list[Path]:
    """Return the recordings in one inbox; none where there are none, with a word in `problems`."""
    if not os.path.isdir(inbox):
        findings.problems.append(f"inbox {inbox}: there is no such folder")
    elif not os.access(inbox, os.R_OK | os.X_OK):
        findings.problems.append(f"inbox {inbox}: the folder may not be read")
    else:
        try:
            return list(discover([inbox], skip=skip, tell=findings.add_lone))
        except UsageError:  # an empty inbox is as good as any
            pass
    return []


def why_unfinished(
    path: Path,
    request: Request,
    temporary_in: Callable[[Path], tuple[str, ...]],
    *,
    now_s: float,
    settle_s: float,
) -> str | None:
    """Say why a recording is left alone for now; None: it is finished.

    A recording that lacks its video is no exception: once nothing changes any more, it is
    submitted, so that its job says what is wrong.
    """
    if path.is_dir():
        places = _places(path, request)
        temporary = [name for place in places for name in temporary_in(place)]
        changes = [change for place in places for change in _changes(place)]
    else:
        own = (f"{path.stem}.", f"{path.stem}~", _LOG_NAME)
        temporary = [name for name in temporary_in(path.parent) if name.lstrip(".").startswith(own)]
        changes = []
    if temporary:
        return f"{temporary[0]} beside it: something is still being written"
    changes += [(source.mtime_ns, source.path or path.name) for source in request.sources]
    newest_ns, name = max(changes, default=(0, ""))
    age_s = now_s - newest_ns / 1e9
    if age_s >= settle_s:
        return None
    if age_s < 0:
        return f"{name or path.name} was last changed in the future, by the clock of this machine"
    return f"{name or path.name} was changed {age_s:.0f} s ago, less than {settle_s:.0f} s"


def is_temporary(name: str) -> bool:
    """Say whether a name is one that programs give to what is not whole yet."""
    if name in HARMLESS_NAMES or name.startswith(_HARMLESS_PREFIXES):
        return False
    return name.startswith(".") or name.lower().endswith(TEMPORARY_SUFFIXES)


def temporary_names(folder: Path) -> tuple[str, ...]:
    """Return the temporary names in a folder, sorted."""
    return tuple(sorted(name for name in os.listdir(folder) if is_temporary(name)))


def _places(folder: Path, request: Request) -> list[Path]:
    """Return the folders that hold a recording's files: its own, that of its stills, ..."""
    named = [folder / source.path for source in request.sources]
    inner = [path if path.is_dir() else path.parent for path in named]
    return list(dict.fromkeys((folder, *inner)))


def _changes(folder: Path) -> list[tuple[int, str]]:
    """Return (time in ns, name) of the last change of a folder and of all that is in it."""
    changes = [(folder.stat().st_mtime_ns, folder.name)]
    with os.scandir(folder) as entries:
        changes += [
            (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name) for entry in entries
        ]
    return changes
