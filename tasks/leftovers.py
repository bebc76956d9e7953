"""Leftovers: what processes that were killed have left on the disk, and nobody will ask for."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playmill.jobs import Step
from playmill.publication import collect_stale, find_temporaries
from playmill.schema import FILE_NAME
from playmill.store import Store

STALE_S = 86_400.0
"""Nobody writes for that long: every task is killed far earlier."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")
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
        for folder in store.losing_attempts(parts_key):
            step = Step(
                verb="extract", job_id="", chunk_index=int(folder.parent.name), parts_key=parts_key
            )
            if step.name not in running and _changed_s(folder) < before_s:
                files = (path for path in folder.rglob("*") if path.is_file())
                yield Leftover(folder, sum(path.stat().st_size for path in files))
    for top in (store.root, datasets / "reports"):
        yield from _temporary_files(top, before_s)
    for folder in datasets.glob("session_*"):
        for path in find_temporaries(folder / FILE_NAME):
            stat = path.stat()
            if stat.st_mtime < before_s:
                yield Leftover(path, stat.st_size if stat.st_nlink == 1 else 0)


def sweep(leftover: Leftover) -> None:
    """Delete it, unless somebody holds it after all."""
    if leftover.path.is_dir():
        shutil.rmtree(leftover.path, ignore_errors=True)
    elif leftover.path.parent.name.startswith("session_"):
        collect_stale(leftover.path.parent / FILE_NAME)
    else:
        leftover.path.unlink(missing_ok=True)


def _temporary_files(top: Path, before_s: float) -> Iterator[Leftover]:
    for folder, names, files in os.walk(top):
        # What is in a part has names of its own.
        names[:] = [name for name in names if not _CHUNK.fullmatch(name)]
        for name in filter(_TEMPORARY.fullmatch, files):
            path = Path(folder, name)
            stat = path.stat()
            if stat.st_mtime < before_s:
                yield Leftover(path, stat.st_size)


def _changed_s(folder: Path) -> float:
    """Return when anything in a folder changed last."""
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
