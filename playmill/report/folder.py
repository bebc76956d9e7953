"""What an index says of each dataset in a folder, and of recordings that failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from playmill.alignment.warnings import has_few_valid, lacks_frames
from playmill.dataset import Dataset, open_dataset
from playmill.errors import DatasetError, PlaymillError
from playmill.report import alignment
from playmill.report.alignment import Gate, Lag
from playmill.schema import FILE_NAME

_DAMAGE = (DatasetError, KeyError, OSError, ValueError, RuntimeError, TypeError)
UNKNOWN_GAME = "(no game named)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One dataset, in figures."""

    path: Path
    session_id: str
    dataset_key: str
    game: str
    length_us: int
    frames: int
    valid: int
    """Rows of /actions that are valid."""
    events: int
    unassigned: int
    p95_ms: float | None
    """Of the distance from event to frame."""
    coverage: float | None
    lag: Lag | None
    conserved: bool | None
    gates: tuple[Gate, ...]
    warnings: int

    @property
    def failed_gates(self) -> int:
        """Number of gates that are not met."""
        return sum(gate.passed is False for gate in self.gates)

    @property
    def troubled(self) -> bool:
        """Whether somebody should look."""
        return (
            bool(self.failed_gates)
            or self.conserved is False
            or lacks_frames(self.coverage)
            or self.has_few_valid
        )

    @property
    def has_few_valid(self) -> bool:
        """Whether there are events, and (nearly) no row is valid."""
        return bool(self.events) and has_few_valid(self.frames, self.valid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A file in a dataset's place that cannot be read as one."""

    path: Path
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A recording that did not become a dataset."""

    recording: str
    why: str
    failed_s: float | None
    """Unix time."""


def dataset_files(folder: Path) -> list[Path]:
    """Return the datasets under `folder`, sorted; hidden folders, as the store, are left out."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if FILE_NAME in files and os.path.basename(path).startswith("session_"):
            found.append(Path(path, FILE_NAME))
    return sorted(found)


def read_entry(path: Path) -> Entry | Unreadable:
    """Return what the index says of the dataset `path`."""
    try:
        with open_dataset(path) as dataset:
            return _entry(path, dataset)
    except _DAMAGE as error:
        return Unreadable(path=path, why=str(error))


def _entry(path: Path, dataset: Dataset) -> Entry:
    report = alignment.read_report(dataset)
    times = dataset.timestamps_us
    game = dataset.metadata.get("game")
    return Entry(
        path=path,
        session_id=dataset.session_id,
        dataset_key=dataset.dataset_key,
        game=game if isinstance(game, str) and game else UNKNOWN_GAME,
        length_us=int(times[-1] - times[0]),
        frames=len(times),
        valid=int(np.count_nonzero(dataset.actions("valid"))),
        events=report.events,
        unassigned=report.unassigned,
        p95_ms=report.distance_ms.p95,
        coverage=report.coverage,
        lag=report.lag,
        conserved=report.conserved,
        gates=report.gates,
        warnings=len(dataset.warnings),
    )


def failures(store: Path) -> list[Failure] | None:
    """Return the recordings that failed by the mill's store, by name; None: they are not known.

    A recording that was mended and published later is not among them.
    """
    if not (store / "jobs").is_dir():
        return None
    try:
        return sorted(_failures(store), key=lambda failure: failure.recording)
    except ImportError:
        return None  # the mill's modules need the extra `extract`


def _failures(store: Path) -> Iterator[Failure]:
    from playmill.store import Store

    mill = Store(store)
    published: dict[str, int] = {}
    failed: dict[str, tuple[int, Failure]] = {}
    for job_id in mill.job_ids():
        try:
            request = mill.request(job_id)
            ending = mill.ending(job_id, "failed")
            done = mill.ending(job_id, "published")
        except (PlaymillError, OSError, ValueError, KeyError, TypeError):
            continue
        name, when = str(request.recording), request.submitted_ns
        if done is not None:
            published[name] = max(when, published.get(name, 0))
        elif ending is not None and when >= failed.get(name, (0,))[0]:
            at = ending.get("failed_s")
            failed[name] = (
                when,
                Failure(
                    recording=name,
                    why=str(ending.get("reason") or "for a reason that is not known"),
                    failed_s=float(at) if isinstance(at, (int, float)) else None,
                ),
            )
    yield from (entry for name, (when, entry) in failed.items() if when > published.get(name, -1))
