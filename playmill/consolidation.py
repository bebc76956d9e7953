"""Consolidate: verified parts and the input log become one published dataset. Knows no queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playmill import __version__, actions, synchronizer
from playmill.encoders import feature_key
from playmill.errors import ClockError, SourceChanged
from playmill.inputs import InputEvents, reader_for
from playmill.jobs import Commit
from playmill.joined_frames import Frames, join_frames
from playmill.manifest import DEFAULT_WINDOW_US, Manifest, file_digest
from playmill.recording import Recording
from playmill.row_source import RowSource
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
    events = InputEvents.none()
    if recording.log is not None:
        events = reader_for(recording.reader).read(recording.log)
    # After reading, so that it is the digest of what was read.
    for path, digest in (
        (recording.log, manifest.log_digest),
        (recording.session_file, manifest.session_digest),
    ):
        if file_digest(path) != digest:
            raise SourceChanged(
                str(path or recording.path),
                "",
                "another content than when it was planned",
                f"sha256 {digest}",
                "Submit the recording again once nothing writes to it.",
            )
    return events


def check_overlap(
    recording: Recording, events: InputEvents, frames: Frames, manifest: Manifest
) -> tuple[str, ...]:
    """Compare the spans of log and video; return warnings.

    Raises:
        ClockError: no event falls into the video, so the two clocks cannot be one.
    """
    if not len(events):
        return ()
    window_us = manifest.config.window_us
    reach = DEFAULT_WINDOW_US if window_us is None else window_us
    # Python integers: times may lie anywhere in 63 bits.
    first = int(frames.timestamp_us[0]) - reach - manifest.config.latency_us
    last = int(frames.timestamp_us[-1]) + reach - manifest.config.latency_us
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    inside = int(
        np.searchsorted(events.timestamp_us, min(max(last, low), high), side="right")
        - np.searchsorted(events.timestamp_us, min(max(first, low), high), side="left")
    )
    if not inside:
        raise ClockError(
            str(recording.log),
            "",
            f"events from {events.timestamp_us[0]} to {events.timestamp_us[-1]} us, none in the"
            " video",
            f"events between {first} and {last} us, when there was video",
            "Check video.pts_zero_us and the log's clock: they must be one clock.",
        )
    if 2 * inside < len(events):
        return (f"only {inside} of {len(events)} events fall into the video",)
    return ()


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
        RecordingError: the recording cannot become a dataset (see each check).
        PartError: a part is damaged; nothing is published.
        OSError: the file cannot be written; nothing is published.
    """
    frames = join_frames(manifest, commits)
    content = _content(recording, manifest, commits, frames)
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


def _content(
    recording: Recording, manifest: Manifest, commits: Sequence[Commit], frames: Frames
) -> DatasetContent:
    """Read the log and synchronize it; return everything but features and pictures."""
    events = read_events(recording, manifest)
    overlap = check_overlap(recording, events, frames, manifest)
    config = manifest.config
    alignment = synchronizer.align(
        frames.timestamp_us,
        events.timestamp_us,
        policy=config.policy,
        window_us=config.window_us,
        latency_us=config.latency_us,
    )
    return DatasetContent(
        session_id=manifest.session_id,
        dataset_key=manifest.dataset_key,
        clock=manifest.clock,
        metadata=recording.metadata,
        provenance=provenance(manifest, commits),
        warnings=[
            *manifest.warnings,
            *(warning for commit in commits for warning in commit.warnings),
            *frames.warnings,
            *overlap,
            *_alignment_warnings(recording, manifest, events),
        ],
        pts=frames.pts,
        time_base=manifest.time_base,
        pts_zero_us=manifest.pts_zero_us,
        timestamp_us=frames.timestamp_us,
        flags=frames.flags,
        events=events,
        alignment=alignment,
        actions=actions.build(frames.timestamp_us, events, alignment),
    )


def _alignment_warnings(recording: Recording, manifest: Manifest, events: InputEvents) -> list[str]:
    warnings = []
    if recording.log is not None and not len(events):
        warnings.append("the input log is empty: the dataset has no events")
    if manifest.config.policy == "window":
        warnings.append(
            "policy window gives an event to the earliest frame within the window, most of a"
            " window before it: kept for compatibility; prefer following"
        )
    if events.rejected.total:
        warnings.append(f"{events.rejected.total} lines of the input log are no events")
    return warnings


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
        "log_digest": manifest.log_digest,
        "reader": manifest.reader,
        "config": manifest.config.to_json(),
        "decoders": sorted({commit.decoder for commit in commits}),
        "device_class": manifest.config.device_class,
        "batch_sizes": sorted({commit.batch_size for commit in commits}),
    }
