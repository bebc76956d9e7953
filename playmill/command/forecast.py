"""Forecast: what a run over some recordings would do, and cost, before anything is started."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from playmill import encoders
from playmill.config import PipelineConfig
from playmill.decoding.process import DecodeProcess
from playmill.errors import DatasetError, DecoderDied, RecordingError
from playmill.faults import in_words
from playmill.frame_processor import FrameProcessor
from playmill.manifest import Manifest, make_manifest
from playmill.phrases import plural, shown_path, time_left
from playmill.plan import frame_times_us
from playmill.publishing.consolidation import read_events
from playmill.publishing.labels import check_overlap
from playmill.recording import Recording, read_recording
from playmill.recording.lone_logs import LoneLog
from playmill.roots import Roots
from playmill.storage import is_published

MEASURED_S = 1.0
"""The backbone is measured for so long at least: a single batch says little."""


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
    events: int | None = None
    """Of the input log; 0 without one."""
    feature_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    """Why it would fail, as far as that shows without decoding."""
    published: bool = False
    """Its dataset is in the datasets folder already, if one was named."""
    skipped: str | None = None
    """Why it is no recording, though it looks as if it belonged to one."""

    @classmethod
    def of_lone_log(cls, lone: LoneLog) -> Forecast:
        """Return what would become of a log without a video: nothing."""
        return cls(recording=str(lone.path.absolute()), skipped=lone.why)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with every key."""
        return asdict(self) | {"warnings": list(self.warnings)}


def forecast(
    paths: Iterable[Path],
    config: PipelineConfig,
    *,
    weights: Path | None = None,
    datasets: Path | None = None,
) -> list[Forecast]:
    """Index and plan each recording, and read its log; decode nothing.

    A log is read whole, as its video is to be digested: what is wrong with either shows.

    Args:
        datasets: folder that would be published into; what is there already is known by it.
    """
    encoder = encoders.describe(config.encoder, weights)
    roots = Roots.whole_machine()
    found = []
    with DecodeProcess() as decoder:
        for path in paths:
            session_id = None
            try:
                recording = read_recording(path, identity=roots.locate(path).path, config=config)
                session_id = recording.session_id
                manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder)
                row = _of(recording, manifest, dim=encoder.feature_dim or 0)
                if datasets is not None:
                    row = replace(row, published=_is_there(datasets, manifest))
                found.append(row)
            except (RecordingError, DatasetError, DecoderDied, OSError) as error:
                why = in_words(error) if isinstance(error, OSError) else str(error)
                name = str(path.absolute())
                found.append(Forecast(recording=name, session_id=session_id, error=why))
    return found


def _is_there(datasets: Path, manifest: Manifest) -> bool:
    return is_published(
        datasets,
        session_id=manifest.session_id,
        dataset_key=manifest.dataset_key,
        video={"name": manifest.video_name, "digest": manifest.video_digest},
    )


def _of(recording: Recording, manifest: Manifest, *, dim: int) -> Forecast:
    """Return the forecast of a recording that can be planned.

    Raises:
        RecordingError: its log cannot be read, or has no event within the video.
    """
    ends = np.array([manifest.chunks[0].start_pts, manifest.chunks[-1].stop_pts - 1])
    ends_us = frame_times_us(ends, time_base=manifest.time_base, pts_zero_us=manifest.pts_zero_us)
    events = read_events(recording, manifest)
    overlap = check_overlap(
        str(recording.log),
        events,
        ends_us,
        window_us=manifest.config.window_us,
        latency_us=manifest.config.latency_us,
    )
    return Forecast(
        recording=str(recording.path.absolute()),
        session_id=recording.session_id,
        frames=manifest.num_frames,
        seconds=round((int(ends_us[1]) - int(ends_us[0])) / 1e6, 3),
        chunks=len(manifest.chunks),
        events=len(events),
        feature_bytes=manifest.num_frames * dim * 2,
        warnings=(*manifest.warnings, *overlap),
    )


def frames_per_second(config: PipelineConfig, *, weights: Path | None = None) -> float:
    """Measure the backbone on this machine, on black pictures, as one extracting process runs it.

    Decoding is not measured; on most machines it costs less than the backbone, beside it.
    """
    encoder = encoders.load(config.encoder, weights, device=config.device_class)
    processor = FrameProcessor.of_run(encoder, config)
    batch = np.zeros((config.batch_size, *processor.model_input_size, 3), np.uint8)
    num_passes = config.num_passes if processor.reentrant else 1
    with ThreadPoolExecutor(num_passes) as pool:
        # The first pass of each thread is slower than all that follow.
        list(pool.map(processor.extract, [batch] * num_passes))
        num_batches, started = 0, time.perf_counter()
        while (spent_s := time.perf_counter() - started) < MEASURED_S:
            list(pool.map(processor.extract, [batch] * num_passes))
            num_batches += num_passes
    return num_batches * config.batch_size / spent_s


def outlook(rows: Iterable[Forecast]) -> Iterator[str]:
    """Yield lines for people: one for each row, and its warnings."""
    for row in rows:
        name = shown_path(row.recording)
        if row.skipped is not None:
            yield f"{name}: skipped: {row.skipped}"
        elif row.error is not None:
            yield f"{name}: would fail: {row.error}"
        else:
            yield (
                f"{name}: session {row.session_id}, {plural(row.frames or 0, 'frame')},"
                f" {row.seconds:.1f} s, {plural(row.chunks or 0, 'chunk')},"
                f" {plural(row.events or 0, 'event')}, {_size(row.feature_bytes or 0)} of features"
                f"{'; its dataset is there already' if row.published else ''}"
            )
        yield from (f"  warning: {warning}" for warning in row.warnings)


def total(rows: Sequence[Forecast], frames_per_s: float | None) -> str:
    """Return the sum of all rows in a sentence.

    Args:
        frames_per_s: what one extracting process does; None where nothing is to be done.
    """
    good = [row for row in rows if row.frames is not None and not row.published]
    there = sum(row.published for row in rows)
    frames = sum(row.frames or 0 for row in good)
    skipped = sum(row.skipped is not None for row in rows)
    text = (
        f"{plural(len(good), 'recording')} would be made,"
        f" {len(rows) - len(good) - skipped - there} would fail"
    )
    if there:
        text += f", {there} {'is' if there == 1 else 'are'} there already"
    if skipped:
        text += f", {plural(skipped, 'log')} without a video skipped"
    if frames_per_s is None:
        return text
    speed = f"{frames_per_s:,.{0 if frames_per_s >= 10 else 1}f} frames/s"
    hours = sum(row.seconds or 0 for row in good) / 3600
    return (
        f"{text}; {plural(frames, 'frame')}, {hours:.2f} h of video,"
        f" {_size(sum(row.feature_bytes or 0 for row in good))} of features; about"
        f" {time_left(frames / frames_per_s)} for one extracting process like this machine's"
        f" ({speed}, decoding and start not counted)"
    )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
