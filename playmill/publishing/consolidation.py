"""Consolidate: verified parts and the input log become one published dataset. Knows no queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playmill import __version__
from playmill.alignment import gates
from playmill.encoders import feature_key
from playmill.errors import SourceChanged
from playmill.inputs import InputEvents, ReadOptions, reader_for
from playmill.jobs import Commit
from playmill.manifest import Manifest, file_digest, sides_digest
from playmill.plan import frame_times_us
from playmill.publishing.joined_frames import Frames, join_frames
from playmill.publishing.labels import FrameTable, Session, label
from playmill.publishing.row_source import RowSource
from playmill.recording import Recording
from playmill.storage import DatasetContent, DataStorage, FeatureBlocks, ImageBlocks

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What was published."""

    dataset: Path
    frames: int
    events: int
    unassigned_events: int
    rejected_lines: int
    warnings: tuple[str, ...]


def read_events(recording: Recording, manifest: Manifest) -> InputEvents:
    """Read the recording's log, if it has one.

    Raises:
        SourceChanged: log or session.json is not the one that was planned.
    """
    events = InputEvents.without_log()
    if recording.log_files is not None:
        events = reader_for(recording.reader).read(recording.log_files, _options(manifest))
    # After reading, so that it is the digest of what was read.
    for path, found, digest in (
        (recording.log, file_digest(recording.log), manifest.log_digest),
        (recording.session_file, file_digest(recording.session_file), manifest.session_digest),
        (recording.path, sides_digest(recording), manifest.sides_digest),
    ):
        if found != digest:
            raise SourceChanged(
                str(path or recording.path),
                "",
                "another content than when it was planned",
                f"sha256 {digest}",
                "Submit the recording again once nothing writes to it.",
            )
    return events


def _options(manifest: Manifest) -> ReadOptions:
    line_us = None
    if manifest.line_pts is not None:
        line_us = frame_times_us(
            np.array(manifest.line_pts, np.int64),
            time_base=manifest.time_base,
            pts_zero_us=manifest.pts_zero_us,
        )
    return ReadOptions(line_us=line_us, keep_text=manifest.config.keep_text)


def consolidate(
    recording: Recording,
    manifest: Manifest,
    commits: Sequence[Commit],
    *,
    source: RowSource,
    storage: DataStorage,
    claim: Callable[[], bool] = lambda: True,
) -> Summary:
    """Verify the parts, synchronize them with the log, and publish the dataset.

    Args:
        commits: one for each chunk, in order.
        source: where the rows of features and pictures come from.
        storage: where datasets are published.
        claim: see `DataStorage.write`.
    Raises:
        RecordingError: the recording cannot become a dataset (see each check). One that misses a
            gate has its alignment report kept by `storage`.
        PartError: a part is damaged; nothing is published.
        OSError: the file cannot be written; nothing is published.
    """
    frames = join_frames(manifest, commits)
    content = _content(recording, manifest, commits, frames, source)
    _check_gates(recording, content, storage)
    summary: dict[str, Any] = {
        "frames": len(frames.pts),
        "events": len(content.events),
        "unassigned_events": content.alignment.unassigned,
        "rejected_lines": content.events.rejected.total,
        "warnings": tuple(content.warnings),
    }
    config = manifest.config
    features = FeatureBlocks(
        key=feature_key(config.encoder, config.weights_digest),
        dim=source.dim(),
        attrs={
            "encoder": config.encoder,
            "weights_digest": manifest.weights_digest,
            "preprocessing": manifest.preprocessing,
            "precision": config.precision,
            "runtime": config.chosen_runtime,
            "parts_key": manifest.parts_key,
        },
        blocks=source.rows("features", frames),
    )
    images = None
    if config.image_size is not None:
        images = ImageBlocks(size=config.image_size, blocks=source.rows("images", frames))
    given = [content]
    del content  # it is given away: `write` lets go of it before it checks the file
    path = storage.write(given.pop(), features=[features], images=images, claim=claim)
    return Summary(dataset=path, **summary)


def _check_gates(recording: Recording, content: DatasetContent, storage: DataStorage) -> None:
    name = str(recording.log or recording.path)
    failure = gates.failed(name, content.report, kept=str(storage.failed_path(content.session_id)))
    if failure is not None:
        storage.keep_failed(content, recording=str(recording.path), why=str(failure))
        raise failure


def _content(
    recording: Recording,
    manifest: Manifest,
    commits: Sequence[Commit],
    frames: Frames,
    source: RowSource,
) -> DatasetContent:
    """Read the log and synchronize it; return everything but features and pictures."""
    events = read_events(recording, manifest)
    config = manifest.config
    session = Session(
        session_id=manifest.session_id,
        dataset_key=manifest.dataset_key,
        clock=manifest.clock,
        metadata=recording.metadata,
        provenance=provenance(manifest, commits),
        warnings=(
            *manifest.warnings,
            *events.warnings,
            *(warning for commit in commits for warning in commit.warnings),
            *frames.warnings,
        ),
        time_base=manifest.time_base,
        pts_zero_us=manifest.pts_zero_us,
        clock_report=manifest.clock_report,
        log=None if recording.log is None else str(recording.log),
    )
    table = FrameTable(
        pts=frames.pts,
        timestamp_us=frames.timestamp_us,
        flags=frames.flags,
        motion=source.motion(frames),
    )
    return label(session, table, events, config)


def provenance(manifest: Manifest, commits: Iterable[Commit]) -> dict[str, Any]:
    """Return where the dataset comes from, as far as its bytes may depend on it."""
    return {
        "playmill": __version__,
        "parts_key": manifest.parts_key,
        "video": {
            "name": manifest.video_name,
            "digest": manifest.video_digest,
            "codec": manifest.codec,
            "width": manifest.width,
            "height": manifest.height,
            "packets": manifest.num_frames,
        },
        "session_digest": manifest.session_digest,
        "sides_digest": manifest.sides_digest,
        "log_digest": manifest.log_digest,
        "reader": manifest.reader,
        "config": manifest.config.to_json(),
        "decoders": sorted({commit.decoder for commit in commits}),
        "device_class": manifest.config.device_class,
        "batch_sizes": sorted({commit.batch_size for commit in commits}),
    }
