"""ingest(job): read what the recording is, index its video, and write the manifest."""

from __future__ import annotations

from pathlib import Path

from playmill import encoders, failpoints
from playmill.errors import MissingStream, UsageError
from playmill.jobs import Request, Step
from playmill.manifest import check_unchanged, make_manifest
from playmill.recording import Recording, read_recording
from playmill.store import Store
from tasks.app import app, settings
from tasks.attempt import attempt
from tasks.fit import Misfit, needed_here


@app.task(name="playmill.ingest")
def ingest(job_id: str, store_id: str | None = None) -> None:
    """Plan one job."""

    def work(store: Store, _: str) -> None:
        from playmill.decoding.process import DecodeProcess

        request = store.request(job_id)
        recording = recording_of(request)
        config = request.config
        weights = store.weights(config.weights_digest)
        with needed_here():
            spec = encoders.describe(config.encoder, weights)
        with DecodeProcess() as decoder:
            manifest = make_manifest(recording, config, index=decoder.index, encoder=spec)
        check_unchanged(recording, request.sources)
        if store.plan(job_id) is None:
            # Whoever asks for this video gets all the tries, whatever became of it before. First,
            # as nobody would do it after a death between the two.
            store.parts(manifest.parts_key).forget_attempts()
        failpoints.reached("ingest:before-manifest")
        store.put_manifest(job_id, manifest)
        failpoints.reached("ingest:after-manifest")

    attempt(Step(verb="ingest", job_id=job_id), work, store_id=store_id)


def recording_of(request: Request) -> Recording:
    """Read a request's recording where it lies on this host.

    Raises:
        RecordingError: it is unsound, or not what was submitted.
        Misfit: this host does not know its root, or has nothing mounted there.
    """
    _check_root(request.recording.root)
    recording = read_recording(
        settings().roots.resolve(request.recording),
        identity=request.recording.path,
        config=request.config,
    )
    for path in recording.sources:
        _check_inside(path, recording)
    check_unchanged(recording, request.sources)
    return recording


def _check_root(name: str) -> None:
    folder = settings().roots.folders.get(name)
    if folder is None:
        raise Misfit(f"PLAYMILL_ROOTS of this worker has no root {name!r}")
    try:
        is_empty = not any(True for _ in folder.iterdir())
    except OSError as error:
        raise Misfit(f"root {name!r}: {folder}: {error.strerror}; is the share mounted?") from error
    if is_empty:
        raise Misfit(f"root {name!r}: {folder} is empty; is the share mounted?")


def _check_inside(path: Path, recording: Recording) -> None:
    try:
        settings().roots.locate(path)
    except UsageError as error:
        raise MissingStream(
            str(recording.path),
            path.name,
            "a link that leads out of the roots",
            "a file under one of them",
            "Copy the file into the recording, or add a root for where it lies.",
        ) from error
