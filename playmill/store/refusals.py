"""Refusals: which workers cannot do which kind of work, and why.

A worker without the GPU, the weights, the package or the root that a job needs notes it here and
leaves the work to others. What is noted is forgotten after a while: a worker may be mended.

    refusals/<fit>/<digest of the worker's name>.json     fit: see `playmill.jobs.Needs.fit`
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from playmill.config import digest_of
from playmill.jobs import Refusal
from playmill.markers import read_json, replace

REFUSED_S = 600.0
"""A refusal counts for this long; then the worker is asked again."""


def refuse(root: Path, fit: str, refusal: Refusal, *, now_s: float) -> None:
    """Note that a worker cannot do the work of this kind."""
    path = root / "refusals" / fit / _name(refusal.worker)
    replace(path, {"worker": refusal.worker, "reason": refusal.reason, "refused_s": now_s})


def refusals(root: Path, fit: str, *, now_s: float) -> list[Refusal]:
    """Return what is noted of one kind of work and still counts, by worker."""
    found = []
    for path in _files(root / "refusals" / fit):
        value = read_json(path)
        if value is not None and now_s < value["refused_s"] + REFUSED_S:
            found.append(Refusal(value["worker"], value["reason"]))
    return sorted(found, key=lambda refusal: refusal.worker)


def anybody_refuses(root: Path) -> bool:
    """Say whether anything is noted at all."""
    return any(True for _ in _files(root / "refusals"))


def forget(root: Path, *, worker: str | None = None, older_s: float | None = None) -> None:
    """Drop what is noted: of one worker, what was noted before a unix time, or all."""
    for fit in list(_files(root / "refusals")):
        for path in list(_files(fit)):
            if worker is not None and path.name != _name(worker):
                continue
            with contextlib.suppress(FileNotFoundError):  # somebody else was quicker
                if older_s is None or path.stat().st_mtime < older_s:
                    path.unlink()
        with contextlib.suppress(OSError):  # something is left
            fit.rmdir()


def _name(worker: str) -> str:
    return f"{digest_of(worker)[:16]}.json"


def _files(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries if not entry.name.startswith("."))
