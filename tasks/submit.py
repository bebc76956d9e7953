"""Submit recordings: write their requests and send what they need first."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from playmill.config import PipelineConfig
from playmill.errors import RecordingError
from playmill.jobs import Request
from playmill.manifest import SourceFile, source_files
from playmill.recording import read_recording
from playmill.recording.session_file import SESSION_FILE
from playmill.roots import Roots
from playmill.store import Store

WRITERS = 16
"""Requests that are being written at a time."""


def make_request(
    path: Path,
    config: PipelineConfig,
    roots: Roots,
    *,
    urgent: bool = False,
    submission_ns: int = 0,
) -> Request:
    """Look at a recording's files and write down what is wanted of it; reads no video.

    A recording that is unsound gets a request all the same: its job says what is wrong.

    Args:
        submission_ns: when the submission began that it is part of, Unix time.
    """
    place = roots.locate(path)
    session_id: str | None
    try:
        recording = read_recording(path, identity=place.path, config=config)
        session_id, sources = recording.session_id, source_files(recording)
    except (RecordingError, OSError):
        broken = path / SESSION_FILE if path.is_dir() else path
        session_id, sources = None, _as_far_as_it_is_there(broken, path)
    return Request.make(
        place,
        sources,
        config,
        submitted_ns=time.time_ns(),
        session_id=session_id,
        urgent=urgent,
        submission_ns=submission_ns,
    )


def _as_far_as_it_is_there(path: Path, base: Path) -> tuple[SourceFile, ...]:
    try:
        return (SourceFile.of(path, base=base),)
    except OSError:
        return ()


def submit(store: Store, request: Request, *, datasets: Path) -> None:
    """Store a request, unless its dataset is published and still there.

    What is urgent stays so until it has ended, whoever submits it again. What is damaged of the
    job's files is written anew.
    """
    job_id = request.job_id
    try:
        published = store.ending(job_id, "published")
        if published is not None:
            if _dataset_key(datasets / published["dataset"]) == published["dataset_key"]:
                return
            store.unpublish(job_id)
    except (ValueError, KeyError):  # the marker is damaged
        store.unpublish(job_id)
    with suppress(ValueError):
        if store.needs(job_id).urgent and store.is_open(job_id):
            request = replace(request, urgent=True)
    store.submit(request)


def submit_all(store: Store, requests: Iterable[Request], *, datasets: Path) -> Iterator[Request]:
    """Store requests as they come, some at a time; yield each, in order, once it is on disk.

    Writing one is waiting for the disk, which takes as long for several at once.
    """
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="submit") as pool:
        under_way: deque[tuple[Request, Future[None]]] = deque()
        for request in requests:
            stored = pool.submit(submit, store, request, datasets=datasets)
            under_way.append((request, stored))
            if len(under_way) > 2 * WRITERS:
                yield _once_stored(*under_way.popleft())
        while under_way:
            yield _once_stored(*under_way.popleft())


def _once_stored(request: Request, stored: Future[None]) -> Request:
    stored.result()
    return request


def _dataset_key(path: Path) -> str | None:
    import h5py  # only where something has been published already

    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs["dataset_key"])
    except (OSError, KeyError):
        return None
