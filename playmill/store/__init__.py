"""Store: where requests, manifests, parts and markers lie on disk. The truth about every job.

Nothing is written twice in place: a file appears whole (temporary name, fsync, link or rename).

    identity.json                  see identity.py
    jobs/<job_id>/request.json     who asked for what; replaced when it is submitted again
                  manifest.v2.json write-once
                  failed.json cancelled.json published.json     how it ended
                  attempts/        see attempts.py
    parts/<parts_key>/             see parts_folder.py
    sessions/<folder>.json         which submission the published dataset of a session is of
    weights/<sha256>.<suffix>      weights files, by their digest
    refusals/                      see refusals.py
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from playmill.errors import JobUnreadable
from playmill.jobs import JobFacts, Needs, Request, Step
from playmill.manifest import MANIFEST_VERSION, JobPlan, Manifest, file_digest
from playmill.markers import (
    fsync,
    put_if_absent,
    read_json,
    read_value,
    replace,
    temporary_beside,
)
from playmill.publishing.publication import locked
from playmill.store.attempts import StepAttempts, attempts_in
from playmill.store.identity import Identity, read_identity
from playmill.store.parts_folder import PartsFolder

ENDINGS = ("published", "failed", "cancelled")
"""Markers of a job that has ended."""


T = TypeVar("T")


@lru_cache(maxsize=20_000)
def _parse_plan(path: Path, stamp: tuple[int, int]) -> JobPlan:
    """Read a job's plan, once: it is asked for again and again while the job goes on."""
    return _parse(path, JobPlan.from_json)


@lru_cache(maxsize=4)
def _parse_manifest(path: Path, stamp: tuple[int, int]) -> Manifest:
    """Read a manifest, which takes a while for a long recording; its chunks come in a row."""
    return _parse(path, Manifest.from_json)


@lru_cache(maxsize=20_000)
def _parse_needs(path: Path, stamp: tuple[int, int]) -> Needs:
    """Read what a request asks of workers, once for each time that it is written."""
    return Needs.of(_parse(path, Request.from_json))


def _parse(path: Path, build: Callable[[dict[str, Any]], T]) -> T:
    """Return `read_value` of a file that must be there; FileNotFoundError where it is not."""
    value = read_value(path, build)
    if value is None:
        raise FileNotFoundError(f"{path} has gone")
    return value


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells one content of a file from the next; None: there is no file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _digests_in(folder: Path) -> Iterator[str]:
    """Yield the names in a folder that are digests; none where there is no folder."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if _is_digest(entry.name))


@dataclass(frozen=True, slots=True)
class Store:
    """The store under `root`."""

    root: Path

    def identity(self) -> Identity | None:
        """Return the store's identity; None: it has none, or is not mounted."""
        return read_identity(self.root)

    # Jobs

    def job_folder(self, job_id: str) -> Path:
        """Return where a job's markers lie."""
        if not _is_digest(job_id):
            raise ValueError(f"{job_id!r} is no job id (64 hex digits)")
        return self.root / "jobs" / job_id

    def has_jobs(self) -> bool:
        """Say whether anything was ever submitted to the store: an unmounted share has nothing.

        Raises:
            OSError: the store cannot be looked into.
        """
        return _stamp(self.root / "jobs") is not None

    def job_ids(self) -> Iterator[str]:
        """Return every job that was ever submitted, in no order."""
        return _digests_in(self.root / "jobs")

    def submit(self, request: Request) -> None:
        """Store a request; somebody asks for it, so it gets all its tries anew."""
        folder = self.job_folder(request.job_id)
        is_new = _stamp(folder) is None
        replace(folder / "request.json", request.to_json())
        if is_new:
            fsync(folder.parent)
        self.forget_attempts(request.job_id)

    def forget_attempts(self, job_id: str) -> None:
        """Let a job be tried anew, also one that failed or was cancelled."""
        folder = self.job_folder(job_id)
        shutil.rmtree(folder / "attempts", ignore_errors=True)
        try:
            plan = self.plan(job_id)
        except ValueError:  # it is damaged: the job is planned anew
            plan = None
            self._manifest_path(job_id).unlink(missing_ok=True)
        if plan is not None:
            self.parts(plan.parts_key).forget_attempts()
        for name in ("failed.json", "cancelled.json"):
            (folder / name).unlink(missing_ok=True)

    @staticmethod
    @contextlib.contextmanager
    def reading(job_id: str) -> Iterator[None]:
        """Turn what goes wrong while a job is read into JobUnreadable."""
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            known = isinstance(error, (OSError, ValueError))
            problem = str(error) if known else f"{type(error).__name__}: {error}"
            raise JobUnreadable(job_id, problem) from error

    def request(self, job_id: str) -> Request:
        """Return a job's request.

        Raises:
            FileNotFoundError: there is no such job.
            OSError, ValueError: it is there, and cannot be read.
        """
        request = read_value(self.job_folder(job_id) / "request.json", Request.from_json)
        if request is None:
            raise FileNotFoundError(f"no job {job_id} in {self.root}")
        return request

    def manifest(self, job_id: str) -> Manifest | None:
        """Return a job's manifest; None before it is planned."""
        stamp = _stamp(self._manifest_path(job_id))
        return None if stamp is None else _parse_manifest(self._manifest_path(job_id), stamp)

    def plan(self, job_id: str) -> JobPlan | None:
        """Return a job's manifest in short; None before it is planned."""
        stamp = _stamp(self._manifest_path(job_id))
        return None if stamp is None else _parse_plan(self._manifest_path(job_id), stamp)

    def _manifest_path(self, job_id: str) -> Path:
        # Another version of the software does not see it, and plans the job anew.
        return self.job_folder(job_id) / f"manifest.v{MANIFEST_VERSION}.json"

    def needs(self, job_id: str) -> Needs:
        """Return what a job asks of workers; that of nothing in particular for an unknown job."""
        path = self.job_folder(job_id) / "request.json"
        stamp = _stamp(path)
        return Needs() if stamp is None else _parse_needs(path, stamp)

    def put_manifest(self, job_id: str, manifest: Manifest) -> bool:
        """Store a manifest, once; say whether this call did."""
        return put_if_absent(self._manifest_path(job_id), manifest.to_json())

    def ending(self, job_id: str, name: str) -> dict[str, Any] | None:
        """Return the marker "failed", "cancelled" or "published" of a job."""
        return read_json(self.job_folder(job_id) / f"{name}.json")

    def end(self, job_id: str, name: str, value: dict[str, Any]) -> bool:
        """Put the marker "failed", "cancelled" or "published"; say whether it is new."""
        return put_if_absent(self.job_folder(job_id) / f"{name}.json", value)

    def is_open(self, job_id: str) -> bool:
        """Say whether a job has not ended, as far as can be seen."""
        folder = self.job_folder(job_id)
        # Not Path.exists, which raises where a folder cannot be looked into.
        return not any(os.path.exists(folder / f"{name}.json") for name in ENDINGS)

    def unpublish(self, job_id: str) -> None:
        """Take back a published marker whose dataset is no longer there."""
        (self.job_folder(job_id) / "published.json").unlink(missing_ok=True)

    # Sessions

    def session_owner(self, folder: str) -> dict[str, Any] | None:
        """Return which submission a session's dataset is of: job_id, recording, submitted_ns."""
        return read_json(self.root / "sessions" / f"{folder}.json")

    def claim_session(self, folder: str, request: Request) -> bool:
        """Note that the dataset in `folder` is `request`'s, unless a newer submission has it."""
        sessions = self.root / "sessions"
        sessions.mkdir(parents=True, exist_ok=True)
        with locked(sessions):
            owner = self.session_owner(folder)
            if owner is not None and owner["submitted_ns"] > request.submitted_ns:
                return False
            value = {
                "job_id": request.job_id,
                "recording": str(request.recording),
                "submitted_ns": request.submitted_ns,
            }
            replace(sessions / f"{folder}.json", value)
            return True

    # Parts

    def parts(self, parts_key: str) -> PartsFolder:
        """Return where parts lie, which need not be there yet."""
        if not _is_digest(parts_key):
            raise ValueError(f"{parts_key!r} is no parts key (64 hex digits)")
        return PartsFolder(self.root / "parts" / parts_key)

    def parts_keys(self) -> Iterator[str]:
        """Return the keys of all parts that there are, in no order."""
        return _digests_in(self.root / "parts")

    # Tries

    def attempts(self, step: Step) -> StepAttempts:
        """Return the tries of a step: those of a chunk are shared by all jobs with its parts."""
        if step.parts_key is not None:
            prefix = self.parts(step.parts_key).attempts / f"{step.chunk_index:06d}"
        else:
            prefix = self.job_folder(step.job_id) / "attempts" / step.verb
        return StepAttempts(prefix, step.job_id)

    # Everything about one job

    def facts(
        self,
        job_id: str,
        *,
        running: frozenset[str] = frozenset(),
        waiting: frozenset[str] = frozenset(),
    ) -> JobFacts:
        """Gather what `remaining()` needs.

        Args:
            running: names of the steps with a live lease.
            waiting: names of the steps that lie in the queue.
        Raises:
            JobUnreadable: some of it cannot be read.
        """
        with self.reading(job_id):
            return self._facts(job_id, running=running, waiting=waiting)

    def _facts(self, job_id: str, *, running: frozenset[str], waiting: frozenset[str]) -> JobFacts:
        failed = self.ending(job_id, "failed")
        published = self.ending(job_id, "published") is not None
        cancelled = self.ending(job_id, "cancelled") is not None
        plan = self.plan(job_id)
        own = attempts_in(self.job_folder(job_id) / "attempts", job_id=job_id)
        attempts = {f"{verb}:{job_id}": tried for verb, tried in own.items()}
        if plan is not None:
            shared = attempts_in(self.parts(plan.parts_key).attempts, job_id=job_id)
            for chunk, tried in shared.items():
                attempts[f"extract:{plan.parts_key}:{int(chunk)}"] = tried
        return JobFacts(
            job_id=job_id,
            plan=plan,
            committed=self.parts(plan.parts_key).committed() if plan else frozenset(),
            attempts=attempts,
            busy=running | waiting,
            running=running,
            published=published,
            failed=failed["reason"] if failed else None,
            cancelled=cancelled,
            needs=self.needs(job_id),
        )

    # Weights

    def add_weights(self, path: Path) -> str:
        """Copy a weights file into the store; return its sha256 hex digest."""
        with temporary_beside(self.root / "weights" / "copy") as temporary:
            shutil.copyfile(path, temporary)
            # The copy's digest, so that a file that changes meanwhile lends its name to nothing.
            digest = file_digest(temporary)
            assert digest is not None
            target = temporary.parent / f"{digest}{path.suffix}"
            if not target.exists():
                fsync(temporary)
                os.replace(temporary, target)
                fsync(target.parent)
        return digest

    def weights(self, digest: str | None) -> Path | None:
        """Return the weights file with this digest; None for None."""
        if digest is None:
            return None
        if not _is_digest(digest):
            raise ValueError(f"{digest!r} is no digest of weights (64 hex digits)")
        found = sorted((self.root / "weights").glob(f"{digest}*"))
        if not found:
            raise FileNotFoundError(f"no weights {digest} in {self.root}; submit the job again")
        return found[0]
