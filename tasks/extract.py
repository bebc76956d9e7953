"""extract(job, chunk): decode a chunk and commit its features."""

from __future__ import annotations

import logging
import shutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from playmill import failpoints
from playmill.config import PipelineConfig
from playmill.errors import EncoderUnavailable
from playmill.jobs import Step
from playmill.manifest import check_unchanged
from playmill.store import Store
from tasks.app import app, settings
from tasks.attempt import attempt, no_store
from tasks.fit import needed_here
from tasks.ingest import recording_of

if TYPE_CHECKING:
    from playmill.extraction import Extractor

log = logging.getLogger(__name__)


@app.task(name="playmill.extract")
def extract(job_id: str, chunk_index: int) -> None:
    """Extract one chunk of a job."""
    store = Store(settings().store)
    manifest = store.manifest(job_id)
    if manifest is None:
        if not store.has_jobs():
            no_store(store, f"extract:{job_id}:{chunk_index}")
        return
    parts_key = manifest.parts_key
    step = Step(verb="extract", job_id=job_id, chunk_index=chunk_index, parts_key=parts_key)

    def work(store: Store, name: str) -> None:
        request = store.request(job_id)
        recording = recording_of(request)
        with needed_here():
            extractor = _extractor(store, manifest.config)
            _check_weights(extractor, manifest.config.encoder, manifest.weights_digest)
        chunk = manifest.chunks[chunk_index]
        folder = store.part_folder(parts_key, chunk_index, name)
        won = False
        try:
            commit = extractor.extract(recording.source, chunk, manifest, folder=folder)
            # A video replaced under our hands must not lend its features to the old one's name.
            check_unchanged(recording, request.sources)
            failpoints.reached("extract:before-commit")
            if not store.is_begun(step, name):
                # The parts were dropped while we wrote: files may be missing from this one.
                log.warning("%s: its tries were forgotten meanwhile; not committed", step.name)
                return
            won = store.commit(parts_key, commit)
            failpoints.reached("extract:after-commit")
        finally:
            if not won:
                shutil.rmtree(folder, ignore_errors=True)
        log.info(
            "chunk %s of %s: %d frames in %.1f s",
            chunk.id,
            recording.path.name,
            len(commit.pts),
            commit.seconds,
            extra={"action": "extract", "job": job_id, "chunk": chunk_index},
        )

    attempt(step, work)


def _extractor(store: Store, config: PipelineConfig) -> Extractor:
    return _load(
        str(store.root),
        config.encoder,
        config.weights_digest,
        config.device_class,
        config.precision,
        config.batch_size,
        config.num_passes,
    )


@lru_cache(maxsize=1)
def _load(
    store: str,
    encoder: str,
    weights_digest: str | None,
    device: str,
    precision: str,
    batch_size: int,
    num_passes: int,
) -> Extractor:
    """Load the backbone once a process; another configuration takes its place."""
    # torch is imported here, in the process that extracts, and in none that only sends messages.
    from playmill import encoders
    from playmill.decode_process import DecodeProcess
    from playmill.extraction import Extractor
    from playmill.frame_processor import FrameProcessor

    weights = Store(Path(store)).weights(weights_digest)
    processor = FrameProcessor.from_encoder(
        encoders.load(encoder, weights=weights, device=device),
        precision=precision,
        batch_size=batch_size,
        num_threads=1,
    )
    return Extractor(processor, DecodeProcess(), num_passes)


def _check_weights(extractor: Extractor, encoder: str, expected: str) -> None:
    spec = extractor.processor.spec
    loaded = "" if spec is None else spec.weights_digest
    if loaded != expected:
        raise EncoderUnavailable(
            encoder,
            f"this worker loaded weights {loaded[:12]}, the job was planned with {expected[:12]}",
            "Give all hosts the same version; or submit the recording again, to plan it anew.",
        )
