"""The whole story in one page: one recording, one process, no queue. The mill's oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from playmill import encoders
from playmill.config import PipelineConfig
from playmill.decoding.process import DecodeProcess
from playmill.decoding.threads import decoder_threads
from playmill.extraction import Extractor
from playmill.frame_processor import FrameProcessor
from playmill.manifest import check_unchanged, file_digest, make_manifest, source_files
from playmill.publishing.consolidation import consolidate
from playmill.publishing.row_source import PartRows
from playmill.recording import read_recording
from playmill.roots import Roots
from playmill.storage import DataStorage


def run(
    path: Path, datasets: Path, config: PipelineConfig | None = None, *, weights: Path | None = None
) -> Path:
    """Turn one recording into a published dataset; return the file.

    Args:
        path: a folder with session.json, or a video file.
        datasets: folder of datasets; made if it does not exist.
        config: what to make; its `weights_digest` is taken from `weights`.
        weights: a weights file that replaces the encoder's own.
    Raises:
        PlaymillError: as the steps below raise it.
    """
    config = replace(config or PipelineConfig(), weights_digest=file_digest(weights))
    identity = Roots.whole_machine().locate(path).path
    recording = read_recording(path.resolve(), identity=identity, config=config)
    before = source_files(recording)
    encoder = encoders.load(config.encoder, weights=weights, device=config.device_class)
    processor = FrameProcessor.of_run(encoder, config)
    threads = decoder_threads(config.device_class, processes=1)
    with (
        DecodeProcess(num_threads=threads, kind=config.decoder) as decoder,
        TemporaryDirectory(prefix="playmill-") as scratch,
    ):
        manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder.spec)
        extractor = Extractor(processor, decoder, config.num_passes)
        parts = [Path(scratch, chunk.id) for chunk in manifest.chunks]
        done = extractor.extract_all(recording.source, manifest.chunks, manifest, folders=parts)
        commits = list(done)
        check_unchanged(recording, before)
        storage = DataStorage(datasets)
        source = PartRows(parts, commits)
        return consolidate(recording, manifest, commits, source=source, storage=storage).dataset
