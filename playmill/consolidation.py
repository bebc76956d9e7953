"""Consolidate: verified parts and the input log become one published dataset. Knows no queue."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import __version__, actions, synchronizer
from playmill.encoders import feature_key
from playmill.errors import ClockError, CorruptVideo, SourceChanged
from playmill.inputs import InputEvents, reader_for
from playmill.jobs import Commit
from playmill.manifest import DEFAULT_WINDOW_US, Manifest, file_digest
from playmill.parts import read_part
from playmill.plan import frame_times_us
from playmill.recording import Recording
from playmill.schema import frame_flag
from playmill.storage import DatasetContent, DataStorage, FeatureBlocks, ImageBlocks

log = logging.getLogger(__name__)

GAP_FACTOR = 1.75
"""A frame farther from its predecessor than this many median intervals has a gap before it."""
FROZEN_US = 1_000_000
"""A picture repeated for at least this long is frozen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What was published."""

    dataset: Path
    frames: int
    events: int
    unassigned_events: int
    rejected_lines: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frames:
    """The frames of a dataset, joined from the commits of its chunks."""

    pts: NDArray[np.int64]
    """(N,) stream ticks, strictly increasing."""
    timestamp_us: NDArray[np.int64]
    """(N,) on the recording's clock, strictly increasing."""
    flags: NDArray[np.uint8]
    """(N,) `schema.FRAME_FLAGS` bits."""
    keep: NDArray[np.bool_]
    """(rows of all parts,) which rows are the dataset's frames."""
    warnings: tuple[str, ...]


def join_frames(manifest: Manifest, commits: Sequence[Commit]) -> Frames:
    """Join the chunks' frames in order and complete their flags.

    Raises:
        CorruptVideo: there is no frame at all.
        ClockError: a frame's time lies outside int64.
    """
    pts = np.array([value for commit in commits for value in commit.pts], np.int64)
    if not len(pts):
        raise CorruptVideo(
            manifest.video_name,
            "",
            f"no frame that can be decoded ({manifest.num_frames} packets)",
            "at least one",
            "The video is damaged beyond use; record or copy it again.",
        )
    try:
        times = frame_times_us(pts, time_base=manifest.time_base, pts_zero_us=manifest.pts_zero_us)
    except OverflowError as error:
        raise ClockError(
            manifest.video_name,
            f"pts {pts[0]} to {pts[-1]}",
            f"times beyond 64 bits (time base {manifest.time_base}, pts 0 at"
            f" {manifest.pts_zero_us} us)",
            "times in microseconds below 2**63",
            "Mend video.pts_zero_us, or write the video's container anew.",
        ) from error
    keep = np.ones(len(pts), bool)
    keep[1:] = np.diff(times) > 0
    flags = np.array([value for commit in commits for value in commit.flags], np.uint8)
    flags[_repeats_at_chunk_starts(commits)] |= frame_flag("duplicate_picture")
    flags, times = flags[keep], times[keep]
    dropped = len(keep) - len(times)
    warnings = (
        (f"{dropped} frames left out: same microsecond as an earlier one",) if dropped else ()
    )
    return Frames(
        pts=pts[keep],
        timestamp_us=times,
        flags=flags | _gap_flags(times) | _frozen_flags(times, flags),
        keep=keep,
        warnings=warnings,
    )


def _repeats_at_chunk_starts(commits: Sequence[Commit]) -> list[int]:
    """Return the rows that open a chunk with the picture that closed the one before."""
    rows, start, last_picture = [], 0, ""
    for commit in commits:
        if commit.pts:
            if commit.first_picture == last_picture:
                rows.append(start)
            last_picture = commit.last_picture
        start += len(commit.pts)
    return rows


def _gap_flags(times: NDArray[np.int64]) -> NDArray[np.uint8]:
    flags = np.zeros(len(times), np.uint8)
    if len(times) > 2:
        intervals = np.diff(times)
        flags[1:][intervals > GAP_FACTOR * np.median(intervals)] = frame_flag("gap_before")
    return flags


def _frozen_flags(times: NDArray[np.int64], flags: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Flag the repeats of every picture that is shown for FROZEN_US or longer."""
    repeated = (flags & frame_flag("duplicate_picture")) != 0
    run = np.cumsum(~repeated) - 1
    first, last = (
        np.flatnonzero(~repeated),
        np.r_[np.flatnonzero(~repeated)[1:] - 1, len(times) - 1],
    )
    frozen = (times[last] - times[first] >= FROZEN_US)[run] & repeated
    return np.where(frozen, np.uint8(frame_flag("frozen")), np.uint8(0))


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
    parts: Sequence[Path],
    storage: DataStorage,
) -> Summary:
    """Verify the parts, synchronize them with the log, and publish the dataset.

    Args:
        commits: one for each chunk, in order.
        parts: the folder of each commit's part.
        storage: where datasets are published.
    Raises:
        RecordingError: the recording cannot become a dataset (see each check).
        PartError: a part is damaged; nothing is published.
        OSError: the file cannot be written; nothing is published.
    """
    frames = join_frames(manifest, commits)
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
    content = DatasetContent(
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
            *_alignment_warnings(manifest, events),
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
    features = FeatureBlocks(
        key=feature_key(config.encoder, config.weights_digest),
        dim=_feature_dim(parts, commits),
        attrs={
            "encoder": config.encoder,
            "weights_digest": manifest.weights_digest,
            "preprocessing": manifest.preprocessing,
            "precision": config.precision,
        },
        blocks=_kept(_rows(parts, commits, "features"), frames.keep),
    )
    images = None
    if config.image_size is not None:
        images = ImageBlocks(
            size=config.image_size, blocks=_kept(_rows(parts, commits, "images"), frames.keep)
        )
    path = storage.write(content, features=[features], images=images)
    return Summary(
        dataset=path,
        frames=len(frames.pts),
        events=len(events),
        unassigned_events=alignment.unassigned,
        rejected_lines=events.rejected.total,
        warnings=tuple(content.warnings),
    )


def _alignment_warnings(manifest: Manifest, events: InputEvents) -> list[str]:
    warnings = []
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


def _feature_dim(parts: Sequence[Path], commits: Sequence[Commit]) -> int:
    for folder, commit in zip(parts, commits, strict=True):
        if commit.pts:
            return int(next(_rows([folder], [commit], "features")).shape[1])
    raise AssertionError("join_frames has seen a frame")


def _rows(parts: Sequence[Path], commits: Sequence[Commit], name: str) -> Iterator[NDArray[Any]]:
    """Yield the rows of all parts in order, verified against their commits."""
    for folder, commit in zip(parts, commits, strict=True):
        yield from read_part(folder, name, num_rows=len(commit.pts), digest=commit.digests[name])


def _kept(blocks: Iterator[NDArray[Any]], keep: NDArray[np.bool_]) -> Iterator[NDArray[Any]]:
    start = 0
    for block in blocks:
        chosen = keep[start : start + len(block)]
        start += len(block)
        yield block if bool(chosen.all()) else block[chosen]
