"""Frames of a dataset, joined from the commits of its chunks, with their times and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playmill.errors import ClockError, CorruptVideo
from playmill.jobs import Commit
from playmill.manifest import Manifest
from playmill.phrases import plural
from playmill.plan import frame_times_us
from playmill.schema import frame_flag

GAP_FACTOR = 1.75
"""A frame farther from its predecessor than this many median intervals has a gap before it."""
FROZEN_US = 1_000_000
"""A picture repeated for at least this long is frozen."""


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
    pts = np.concatenate([np.zeros(0, np.int64), *(commit.pts for commit in commits)])
    if not len(pts):
        raise CorruptVideo(
            manifest.video_name,
            "",
            f"no frame that can be decoded ({plural(manifest.num_frames, 'packet')})",
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
    flags = np.concatenate([np.zeros(0, np.uint8), *(commit.flags for commit in commits)])
    flags[_repeats_at_chunk_starts(commits)] |= frame_flag("duplicate_picture")
    flags, times = _kept_flags(flags, keep), times[keep]
    dropped = len(keep) - len(times)
    warnings = (
        (f"{plural(dropped, 'frame')} left out: same microsecond as an earlier one",)
        if dropped
        else ()
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


def _kept_flags(flags: NDArray[np.uint8], keep: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the flags of the frames that are kept, as if there were no others.

    A frame behind ones that are left out repeats the picture of the one before them where none of
    these changed it. That a change was taken back is not known, and not claimed.
    """
    duplicate = np.uint8(frame_flag("duplicate_picture"))
    picture = np.cumsum((flags & duplicate) == 0)[keep]
    kept = flags[keep]
    kept[1:][np.diff(picture) > 0] &= ~duplicate
    return kept


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
