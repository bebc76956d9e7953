"""consolidate(job): verify, synchronize, publish. Believes only the store."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from playmill import failpoints
from playmill.errors import PartError, SessionConflict, Superseded
from playmill.jobs import Commit, Step
from playmill.store import Store
from playmill.store.identity import check_datasets
from playmill.store.parts_folder import PartsFolder
from tasks.app import app, settings
from tasks.attempt import attempt
from tasks.fit import Misfit
from tasks.ingest import recording_of

if TYPE_CHECKING:
    from playmill.manifest import Manifest
    from playmill.publishing.consolidation import Summary
    from playmill.publishing.row_source import PartRows, RowSource

log = logging.getLogger(__name__)


@app.task(name="playmill.consolidate")
def consolidate(job_id: str, store_id: str | None = None) -> None:
    """Publish one job's dataset once all its chunks are committed."""
    step = Step(verb="consolidate", job_id=job_id)
    attempt(step, lambda store, _: _publish(store, job_id), store_id=store_id)


def _publish(store: Store, job_id: str) -> None:
    # zarr and h5py are imported here, in the process that consolidates, and in no sender.
    from playmill.publishing.consolidation import consolidate as publish
    from playmill.storage import DataStorage, session_folder

    _check_datasets(store)
    request = store.request(job_id)
    recording = recording_of(request)
    manifest = store.manifest(job_id)
    if manifest is None:
        raise FileNotFoundError(f"the manifest of job {job_id} has gone from {store.root}")
    folder = session_folder(manifest.session_id)
    owner = store.session_owner(folder)
    if owner is not None and owner["submitted_ns"] > request.submitted_ns:
        store.end(job_id, "cancelled", {"reason": str(Superseded(folder))})
        return
    parts = store.parts(manifest.parts_key)
    commits = _commits(parts, manifest)
    collected = parts.collected()

    def claim() -> bool:
        _check_datasets(store)  # once more, just before the file gets its name
        return store.claim_session(folder, request)

    failpoints.reached("consolidate:before-publication")
    try:
        summary = publish(
            recording,
            manifest,
            commits,
            source=_rows(parts, manifest, commits, collected),
            storage=DataStorage(settings().datasets),
            claim=claim,
        )
    except Superseded as error:
        store.end(job_id, "cancelled", {"reason": str(error)})
        return
    except PartError:
        _drop_damaged(parts, manifest, commits, collected)
        raise
    except SessionConflict as error:
        raise _naming_both(error, str(recording.path), owner) from error
    failpoints.reached("consolidate:after-publication")
    failpoints.reached("consolidate:before-marker")
    store.end(job_id, "published", _ending(summary, manifest, commits))
    failpoints.reached("consolidate:after-marker")
    log.info(
        "published %s: %d frames, %d events",
        summary.dataset,
        summary.frames,
        summary.events,
        extra={"action": "publish", "job": job_id},
    )


def _commits(parts: PartsFolder, manifest: Manifest) -> list[Commit]:
    """Read the chunks' commits; those that are damaged are dropped, to be computed again."""
    commits, problems = [], []
    for chunk in manifest.chunks:
        try:
            commit = parts.read_commit(chunk.index)
        except ValueError as error:
            parts.drop_marker(chunk.index)
            problems.append(f"a commit marker: {error}")
            continue
        if commit is None:
            problems.append("a commit marker has gone since it was listed")
        else:
            commits.append(commit)
    if problems:
        raise PartError(str(parts.root), problems[0])
    return commits


def _rows(
    parts: PartsFolder, manifest: Manifest, commits: list[Commit], collected: str | None
) -> RowSource:
    """Return where the rows are: in the parts, or in the dataset that holds them by now."""
    from playmill.encoders import feature_key
    from playmill.publishing.row_source import DatasetRows

    if collected is None:
        return _part_rows(parts, commits)
    key = feature_key(manifest.config.encoder, manifest.config.weights_digest)
    return DatasetRows(settings().datasets / collected, key, manifest.parts_key)


def _part_rows(parts: PartsFolder, commits: list[Commit]) -> PartRows:
    from playmill.publishing.row_source import PartRows

    return PartRows([parts.part(commit.chunk_index, commit.attempt) for commit in commits], commits)


def _drop_damaged(
    parts: PartsFolder, manifest: Manifest, commits: list[Commit], collected: str | None
) -> None:
    """Let what is damaged be computed again; everything else stays.

    Nothing is damaged where the parts were collected under our hands: the next try reads the rows
    of the dataset that holds them.
    """
    if collected is not None:
        parts.drop()
    elif parts.collected() is None:
        for commit in _part_rows(parts, commits).damaged():
            parts.drop_commit(commit)


def _ending(summary: Summary, manifest: Manifest, commits: list[Commit]) -> dict[str, Any]:
    """Return what the published marker says."""
    return asdict(summary) | {
        "dataset": summary.dataset.relative_to(settings().datasets).as_posix(),
        "dataset_key": manifest.dataset_key,
        "session_id": manifest.session_id,
        "published_s": time.time(),
        "chunk_seconds": [commit.seconds for commit in commits],
        "hardware": sorted({commit.hardware for commit in commits}),
    }


def _check_datasets(store: Store) -> None:
    """Raise Misfit unless this worker sees the store's datasets folder."""
    try:
        check_datasets(store.root, settings().datasets)
    except (OSError, ValueError, KeyError) as error:
        raise Misfit(str(error)) from error


def _naming_both(
    error: SessionConflict, recording: str, owner: dict[str, object] | None
) -> SessionConflict:
    theirs = f" of {owner['recording']}" if owner else ""
    return SessionConflict(
        error.path, error.place, f"{error.found}{theirs}", f"{error.expected} ({recording})",
        error.action,
    )  # fmt: skip
