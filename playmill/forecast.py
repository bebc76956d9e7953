"""Forecast: what a run over some recordings would do, and cost, before anything is started."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playmill import encoders
from playmill.config import PipelineConfig
from playmill.decode_process import DecodeProcess
from playmill.errors import DecoderDied, RecordingError
from playmill.manifest import make_manifest
from playmill.plan import frame_times_us
from playmill.recording import read_recording
from playmill.roots import Roots


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What would become of one recording."""

    recording: str
    session_id: str | None = None
    frames: int | None = None
    """By the video's packets; decoding may give fewer."""
    seconds: float | None = None
    """From the first frame to the last."""
    chunks: int | None = None
    feature_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    """Why it would fail, as far as that shows without decoding."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with every key."""
        return asdict(self) | {"warnings": list(self.warnings)}


def forecast(
    paths: Iterable[Path], config: PipelineConfig, *, weights: Path | None = None
) -> list[Forecast]:
    """Index and plan each recording; decode nothing."""
    encoder = encoders.describe(config.encoder, weights)
    dim = encoder.feature_dim or 0
    roots = Roots.whole_machine()
    found = []
    with DecodeProcess() as decoder:
        for path in paths:
            session_id = None
            try:
                recording = read_recording(path, identity=roots.locate(path).path, config=config)
                session_id = recording.session_id
                manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder)
            except (RecordingError, DecoderDied) as error:
                failed = Forecast(recording=str(path), session_id=session_id, error=str(error))
                found.append(failed)
                continue
            ends = np.array([manifest.chunks[0].start_pts, manifest.chunks[-1].stop_pts - 1])
            first, last = frame_times_us(ends, time_base=manifest.time_base, pts_zero_us=0)
            found.append(
                Forecast(
                    recording=str(path),
                    session_id=session_id,
                    frames=manifest.num_frames,
                    seconds=round((int(last) - int(first)) / 1e6, 3),
                    chunks=len(manifest.chunks),
                    feature_bytes=manifest.num_frames * dim * 2,
                    warnings=manifest.warnings,
                )
            )
    return found


def frames_per_second(config: PipelineConfig, *, weights: Path | None = None) -> float:
    """Measure the backbone on this machine, on two batches of black pictures.

    Decoding is not measured; on most machines it costs less than the backbone, beside it.
    """
    from playmill.frame_processor import FrameProcessor

    processor = FrameProcessor.from_encoder(
        encoders.load(config.encoder, weights, device=config.device_class),
        precision=config.precision,
        batch_size=config.batch_size,
        num_threads=config.num_threads,
    )
    batch = np.zeros((config.batch_size, *processor.model_input_size, 3), np.uint8)
    processor.extract(batch)
    started = time.perf_counter()
    for _ in range(2):
        processor.extract(batch)
    return 2 * config.batch_size / (time.perf_counter() - started)
