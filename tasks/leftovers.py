"""Leftovers: what processes that were killed have left on the disk, and nobody will ask for."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from playmill.jobs import Step
from playmill.publishing.publication import collect_stale, find_temporaries
from playmill.schema import FAILED_FOLDER, FILE_NAME, REPORT_FILE_NAME
from playmill.store import Store

STALE_S = 86_400.0
"""Nobody writes for that long: every task is killed far earlier."""
_PUBLISHED = (FILE_NAME, REPORT_FILE_NAME)
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}(\.tmp)?")
_CHUNK = re.compile(r"[0-9]{6,}")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file or folder that may go."""

    path: Path
    bytes: int
    """On the disk; 0 for a second name of a file that stays."""


def find_leftovers(
    store: Store, datasets: Path, *, running: frozenset[str], now_s: float
) -> Iterator[Leftover]:
    """Yield parts that never won, and temporary files, all of them a day old.

    Args:
        running: names of the steps that somebody works on.
    """
    before_s = now_s - STALE_S
    for parts_key in store.parts_keys():
        for folder in store.parts(parts_key).losing_attempts():
            step = Step(
                verb="extract", job_id="", chunk_index=int(folder.parent.name), parts_key=parts_key
            )
            if step.name not in running and _changed_s(folder) < before_s:
                num_bytes = sum(s.st_size for s in _stats(folder) if S_ISREG(s.st_mode))
                yield Leftover(folder, num_bytes)
    for top in (store.root, datasets / "reports", datasets / FAILED_FOLDER):
        yield from _temporary_files(top, before_s)
    for folder in datasets.glob("session_*"):
        for path in (path for name in _PUBLISHED for path in find_temporaries(folder / name)):
            stat = _stat(path)
            if stat is not None and stat.st_mtime < before_s:
                yield Leftover(path, stat.st_size if stat.st_nlink == 1 else 0)


def sweep(leftover: Leftover) -> None:
    """Delete it, unless somebody holds it after all."""
    if leftover.path.is_dir():
        shutil.rmtree(leftover.path, ignore_errors=True)
    elif leftover.path.parent.name.startswith("session_"):
        for name in _PUBLISHED:
            collect_stale(leftover.path.parent / name)
    else:
        leftover.path.unlink(missing_ok=True)


def _temporary_files(top: Path, before_s: float) -> Iterator[Leftover]:
    for folder, names, files in os.walk(top):
        # What is in a part has names of its own.
        names[:] = [name for name in names if not _CHUNK.fullmatch(name)]
        for name in filter(_TEMPORARY.fullmatch, files):
            path = Path(folder, name)
            stat = _stat(path)
            if stat is not None and stat.st_mtime < before_s:
                yield Leftover(path, stat.st_size)


def _changed_s(folder: Path) -> float:
    """Return when anything in a folder changed last."""
    return max((stat.st_mtime for stat in _stats(folder)), default=math.inf)


def _stats(folder: Path) -> Iterator[os.stat_result]:
    """Yield what is known of a folder and of everything in it, as far as it is still there."""
    # Not rglob, which raises where a folder goes while it looks.
    for top, _, files in os.walk(folder):
        yield from filter(
            None, (_stat(path) for path in (Path(top), *(Path(top, f) for f in files)))
        )


def _stat(path: Path) -> os.stat_result | None:
    """Return what is known of a file; None: it has gone while we looked."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
