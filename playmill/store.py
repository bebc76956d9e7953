"""Store: where requests, manifests, parts and markers lie on disk. The truth about every job.

Nothing is written twice in place: a file appears whole (temporary name, fsync, link or rename).

    identity.json                  see identity.py
    jobs/<job_id>/request.json     who asked for what; replaced when it is submitted again
                  manifest.v2.json write-once
                  failed.json cancelled.json published.json     how it ended
                  attempts/<step>.<n>.json (begun) and <step>.<n>.failed.json
    parts/<parts_key>/<chunk>/<attempt>/        zarr
                      commits/<chunk>.json      put-if-absent: names the winning attempt
                      collected.json            the parts are gone; a dataset holds their rows
                      attempts/<chunk>.<n>.json and <chunk>.<n>.failed.json
    sessions/<folder>.json         which submission the published dataset of a session is of
    weights/<sha256>.<suffix>      weights files, by their digest
    refusals/                      see refusals.py
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from playmill.errors import JobUnreadable, PlaymillError
from playmill.identity import Identity, read_identity
from playmill.jobs import MAX_ATTEMPTS, Attempts, Commit, JobFacts, Needs, Request, Step
from playmill.manifest import MANIFEST_VERSION, JobPlan, Manifest, file_digest
from playmill.markers import fsync, put_if_absent, read_json, replace, temporary_beside
from playmill.publishing.publication import locked

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
    """Return `_parsed` of a file that must be there; raise FileNotFoundError where it is not."""
    value = _parsed(path, build)
    if value is None:
        raise FileNotFoundError(f"{path} has gone")
    return value


def _parsed(path: Path, build: Callable[[dict[str, Any]], T]) -> T | None:
    """Build a value from the JSON object in a file; None: there is none.

    Raises:
        ValueError: it is damaged, or another object.
    """
    value = read_json(path)
    try:
        return None if value is None else build(value)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells one content of a file from the next; None: there is no file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


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
        """Yield every job that was ever submitted, in no order."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / "jobs") as entries:
            for entry in entries:
                if _is_digest(entry.name):
                    yield entry.name

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
            self.forget_part_attempts(plan.parts_key)
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
        request = _parsed(self.job_folder(job_id) / "request.json", Request.from_json)
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

    def forget_part_attempts(self, parts_key: str) -> None:
        """Give all chunks their tries anew."""
        shutil.rmtree(self._parts(parts_key) / "attempts", ignore_errors=True)

    def _parts(self, parts_key: str) -> Path:
        if not _is_digest(parts_key):
            raise ValueError(f"{parts_key!r} is no parts key (64 hex digits)")
        return self.root / "parts" / parts_key

    def part_folder(self, parts_key: str, chunk_index: int, attempt: str) -> Path:
        """Return where one attempt's part of a chunk lies."""
        return self._parts(parts_key) / f"{chunk_index:06d}" / attempt

    def _commit_path(self, parts_key: str, chunk_index: int) -> Path:
        return self._parts(parts_key) / "commits" / f"{chunk_index:06d}.json"

    def committed(self, parts_key: str) -> frozenset[int]:
        """Return the chunks that have a commit marker."""
        try:
            names = os.listdir(self._parts(parts_key) / "commits")
        except FileNotFoundError:
            return frozenset()
        numbers = (name.removesuffix(".json") for name in names)
        return frozenset(int(number) for number in numbers if number.isdecimal())

    def commit(self, parts_key: str, commit: Commit) -> bool:
        """Put a chunk's commit marker; say whether this attempt won."""
        return put_if_absent(self._commit_path(parts_key, commit.chunk_index), commit.to_json())

    def read_commit(self, parts_key: str, chunk_index: int) -> Commit | None:
        """Return a chunk's commit marker, if there is one; raise ValueError if it is damaged."""
        return _parsed(self._commit_path(parts_key, chunk_index), Commit.from_json)

    def collect_parts(self, parts_key: str, *, dataset: str) -> None:
        """Delete the parts of features that a published dataset holds; their commits stay.

        Args:
            dataset: the file, relative to the folder of datasets.
        """
        folder = self._parts(parts_key)
        replace(folder / "collected.json", {"dataset": dataset})
        for path in self._chunk_folders(parts_key):
            shutil.rmtree(path, ignore_errors=True)

    def collected(self, parts_key: str) -> str | None:
        """Return the dataset that holds the features whose parts were deleted, if they were."""
        value = read_json(self._parts(parts_key) / "collected.json")
        return None if value is None else str(value["dataset"])

    def drop_parts(self, parts_key: str) -> None:
        """Delete everything about some features: they will be computed anew if asked for."""
        shutil.rmtree(self._parts(parts_key), ignore_errors=True)

    def parts_keys(self) -> Iterator[str]:
        """Yield the keys of all parts that there are, in no order."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / "parts") as entries:
            for entry in entries:
                if _is_digest(entry.name):
                    yield entry.name

    def parts_bytes(self, parts_key: str) -> int:
        """Return how much disk the parts of some features take."""
        folders = self._chunk_folders(parts_key)
        num_bytes = 0
        for top, _, files in (found for folder in folders for found in os.walk(folder)):
            for name in files:
                with contextlib.suppress(FileNotFoundError):  # it has gone while we looked
                    num_bytes += os.lstat(os.path.join(top, name)).st_size
        return num_bytes

    def losing_attempts(self, parts_key: str) -> Iterator[Path]:
        """Yield the folders of attempts that no commit marker names (yet)."""
        for folder in self._chunk_folders(parts_key):
            try:
                commit = self.read_commit(parts_key, int(folder.name))
            except (OSError, ValueError):
                continue  # nobody can say which of them counts
            with contextlib.suppress(FileNotFoundError):  # it has gone while we looked
                names = os.listdir(folder)
                yield from (folder / name for name in names if not commit or name != commit.attempt)

    def _chunk_folders(self, parts_key: str) -> list[Path]:
        return [path for path in self._parts(parts_key).glob("[0-9]*") if path.is_dir()]

    def drop_commit(self, parts_key: str, commit: Commit) -> None:
        """Remove a marker whose part is damaged, unless another attempt has replaced it."""
        if self.read_commit(parts_key, commit.chunk_index) == commit:
            self.drop_marker(parts_key, commit.chunk_index)
            folder = self.part_folder(parts_key, commit.chunk_index, commit.attempt)
            shutil.rmtree(folder, ignore_errors=True)

    def drop_marker(self, parts_key: str, chunk_index: int) -> None:
        """Remove a chunk's commit marker, and what is known of its tries."""
        self._commit_path(parts_key, chunk_index).unlink(missing_ok=True)
        # The tries that led to it say nothing about the next ones.
        attempts = self._parts(parts_key) / "attempts"
        for path in attempts.glob(f"{chunk_index:06d}.*"):
            path.unlink(missing_ok=True)

    # Attempts: counted on the store, so that the loss of the queue does not change the count

    def _attempt_prefix(self, step: Step) -> Path:
        if step.parts_key is not None:
            return self._parts(step.parts_key) / "attempts" / f"{step.chunk_index:06d}"
        return self.job_folder(step.job_id) / "attempts" / step.verb

    def begin_attempt(self, step: Step, *, who: str) -> str | None:
        """Count a new try of `step`; return its name, or None when there were enough."""
        prefix = self._attempt_prefix(step)
        token = secrets.token_hex(4)
        for number in range(1, MAX_ATTEMPTS + 1):
            begun = {"who": who, "started_s": time.time(), "attempt": f"{number}-{token}"}
            if put_if_absent(prefix.parent / f"{prefix.name}.{number}.json", begun):
                return f"{number}-{token}"
        return None

    def touch_attempt(self, step: Step, attempt: str) -> None:
        """Give a sign of life: the try goes on, whatever has become of its lease."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._begun_path(step, attempt))

    def _begun_path(self, step: Step, attempt: str) -> Path:
        prefix = self._attempt_prefix(step)
        return prefix.parent / f"{prefix.name}.{attempt.partition('-')[0]}.json"

    def is_begun(self, step: Step, attempt: str) -> bool:
        """Say whether a try still counts: nobody has dropped the parts since it began."""
        return (read_json(self._begun_path(step, attempt)) or {}).get("attempt") == attempt

    def take_back_attempt(self, step: Step, attempt: str) -> None:
        """Let a try not count: whoever began it cannot do the step, and leaves it to others."""
        if self.is_begun(step, attempt):
            self._begun_path(step, attempt).unlink(missing_ok=True)

    def fail_attempt(self, step: Step, attempt: str, error: Exception, *, hopeless: bool) -> None:
        """Record why a try failed, unless attempts have been forgotten since it began."""
        begun = self._begun_path(step, attempt)
        if not self.is_begun(step, attempt):
            return
        known = isinstance(error, PlaymillError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        put_if_absent(
            begun.with_suffix(".failed.json"),
            {
                "error": reason,
                "hopeless": hopeless,
                "failed_s": time.time(),
                "job_id": step.job_id,
            },
        )

    def _attempts_in(self, folder: Path, *, job_id: str) -> dict[str, Attempts]:
        """Return the attempts of every step that has any in `folder`, by file name prefix.

        Jobs that share parts share the count of tries; but what is hopeless for another job (its
        file has gone, or changed) need not be so for `job_id`.
        """
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
        own = self._attempts_in(self.job_folder(job_id) / "attempts", job_id=job_id)
        attempts = {f"{verb}:{job_id}": tried for verb, tried in own.items()}
        if plan is not None:
            shared = self._attempts_in(self._parts(plan.parts_key) / "attempts", job_id=job_id)
            for chunk, tried in shared.items():
                attempts[f"extract:{plan.parts_key}:{int(chunk)}"] = tried
        return JobFacts(
            job_id=job_id,
            plan=plan,
            committed=self.committed(plan.parts_key) if plan else frozenset(),
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
