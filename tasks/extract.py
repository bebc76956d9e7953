"""extract(job, chunk): decode a chunk and commit its features."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from playmill import failpoints
from playmill.config import PipelineConfig
from playmill.errors import EncoderUnavailable
from playmill.jobs import Step
from playmill.manifest import check_unchanged
from playmill.store import Store
from tasks.app import app, settings
from tasks.attempt import attempt, no_store
from tasks.fit import is_of, needed_here
from tasks.ingest import recording_of

if TYPE_CHECKING:
    from playmill.extraction import Extractor
    from playmill.manifest import Manifest

log = logging.getLogger(__name__)


@app.task(name="playmill.extract")
def extract(job_id: str, chunk_index: int, store_id: str | None = None) -> None:
    """Extract one chunk of a job."""
    store = Store(settings().store)
    if not is_of(store, store_id):
        no_store(store, store_id, f"extract:{job_id}:{chunk_index}")
        return
    manifest = store.manifest(job_id)
    if manifest is None:
        return
    parts_key = manifest.parts_key
    step = Step(verb="extract", job_id=job_id, chunk_index=chunk_index, parts_key=parts_key)

    def work(store: Store, name: str) -> None:
        request = store.request(job_id)
        recording = recording_of(request)
        with needed_here():
            extractor = _extractor(store, manifest.config)
            _check_planned(extractor, manifest)
        chunk = manifest.chunks[chunk_index]
        folder = store.parts(parts_key).part(chunk_index, name)
        won = False
        try:
            with needed_here():  # a decoder that was there may have gone
                commit = extractor.extract(recording.source, chunk, manifest, folder=folder)
            # A video replaced under our hands must not lend its features to the old one's name.
            check_unchanged(recording, request.sources)
            failpoints.reached("extract:before-commit")
            if not store.attempts(step).counts(name):
                # The parts were dropped while we wrote: files may be missing from this one.
                log.warning("%s: its tries were forgotten meanwhile; not committed", step.name)
                return
            won = store.parts(parts_key).commit(commit)
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

    attempt(step, work, store_id=store_id)


_loaded: list[tuple[tuple[object, ...], Extractor]] = []
"""What this process has loaded last: the backbone stays from one chunk to the next."""


def _extractor(store: Store, config: PipelineConfig) -> Extractor:
    """Return what extracts with `config`, loaded once; another configuration takes its place."""
    backbone = ("device_class", "encoder", "weights_digest", "precision", "batch_size")
    names = (*backbone, "num_passes", "decoder")
    key = (str(store.root), config.chosen_runtime, *(getattr(config, name) for name in names))
    if not _loaded or _loaded[0][0] != key:
        if _loaded:
            from playmill.frame_processor import free_device_memory

            # Two backbones together may not fit where each alone does.
            _loaded.pop()[1].decoder.close()
            free_device_memory(config.device_class)
        _loaded.append((key, _load(store, config)))
    return _loaded[0][1]


def _load(store: Store, config: PipelineConfig) -> Extractor:
    # torch is imported here, in the process that extracts, and in none that only sends messages.
    from playmill import encoders
    from playmill.decoding.process import DecodeProcess
    from playmill.decoding.threads import decoder_threads
    from playmill.extraction import Extractor
    from playmill.frame_processor import FrameProcessor

    threads = settings().decoder_threads or decoder_threads(config.device_class, processes=1)
    decoder = DecodeProcess(num_threads=threads, kind=config.decoder)
    decoder.check()
    weights = store.weights(config.weights_digest)
    encoder = encoders.load(config.encoder, weights=weights, device=config.device_class)
    processor = FrameProcessor.of_run(encoder, config)
    return Extractor(processor, decoder, config.num_passes)


def _check_planned(extractor: Extractor, manifest: Manifest) -> None:
    """Raise EncoderUnavailable unless features of this host may go by the name of the planned."""
    spec = extractor.processor.spec
    loaded = ("", "") if spec is None else (spec.weights_digest[:12], spec.preprocessing)
    planned = (manifest.weights_digest[:12], manifest.preprocessing)
    if spec is None or spec.weights_digest != manifest.weights_digest or loaded != planned:
        raise EncoderUnavailable(
            manifest.config.encoder,
            f"this worker loaded {' / '.join(loaded)}, the job was planned with"
            f" {' / '.join(planned)}",
            "Give all hosts the same version; or submit the recording again, to plan it anew.",
        )
