"""What a session of game-recorder says besides its inputs: segments, rates, times of pictures.

Knows meta.json, frame_timestamps.jsonl and the names of segments; no log, no event.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.config import MAX_TIME_US
from playmill.inputs.lines import MAX_LINE_BYTES, Rejected, log_lines, parse_object

META, FRAME_TIMES = "meta.json", "frame_timestamps.jsonl"
MAX_FRAME = 1 << 32
"""Numbers of frames lie below it."""
DEFAULT_FPS = 30.0
"""Frames a second, where meta.json does not say it."""
_MAX_MILLI = MAX_TIME_US // 1000
_NAME = re.compile(r"(?P<session>.*\d{8}_\d{6})_(?P<start>\d{1,9})_(?P<end>\d{1,9})\.mp4", re.I)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Which part of a session a video is, and what meta.json says of the session."""

    start: int
    """Number of the first picture."""
    end: int
    """Number after the last one, as the file's name has it."""
    offset: int = 0
    """What is subtracted from a line's number to get the picture's."""
    fps: float = DEFAULT_FPS
    """Numbers a second."""
    start_us: int | None = None
    """Unix time of number 0; None: not said."""
    dropped: int = 0
    """Pictures that the recorder lost."""
    warnings: tuple[str, ...] = ()

    @property
    def period_us(self) -> float:
        """Return the time from one number to the next."""
        return 1_000_000 / self.fps

    def picture(self, number: int) -> int:
        """Return which picture of the video the line of that number belongs to."""
        return number - self.offset - self.start


def read_segment(video: Path, meta: Path | None) -> Segment | None:
    """Read a video's name and meta.json, as far as they make sense; None: it is no segment."""
    name = _NAME.fullmatch(video.name)
    if name is None:
        return None
    start, end = int(name["start"]), int(name["end"])
    said = read_meta(meta)
    offset = _whole(said.get("event_video_sync_offset"), -MAX_FRAME, MAX_FRAME)
    fps = said.get("fps")
    begun = _whole(said.get("start_epoch_ms"), 1, _MAX_MILLI)
    warning = f"{META} does not say event_video_sync_offset: it is taken for 0"
    return Segment(
        start=start,
        end=end,
        offset=offset or 0,
        fps=fps if isinstance(fps, (int, float)) and 0.01 <= fps <= 10_000 else DEFAULT_FPS,
        start_us=None if begun is None else begun * 1000,
        dropped=_whole(said.get("frame_drop_count"), 0, MAX_FRAME) or 0,
        warnings=(warning,) if offset is None else (),
    )


def read_meta(path: Path | None) -> dict[str, Any]:
    """Return meta.json; {} where it cannot be read."""
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return parse_object(file.read(MAX_LINE_BYTES + 1).removeprefix(_BOM).strip())
    except (OSError, Rejected):
        return {}


def neighbours(video: Path) -> list[Path]:
    """Return the logs of the segments just before and after a video's, if they are there."""
    name = _NAME.fullmatch(video.name)
    if name is None:
        return []
    session, start, end = (re.escape(name[group]) for group in ("session", "start", "end"))
    beside = re.compile(rf"{session}_(\d{{1,9}}_{start}|{end}_\d{{1,9}})\.jsonl")
    found = sorted(path for path in video.parent.iterdir() if beside.fullmatch(path.name))
    return [path for path in found if path.stem != video.stem and path.is_file()]


def _whole(value: object, low: int, high: int) -> int | None:
    """Return a whole number of a file; None: it is none, or beyond low..high."""
    if isinstance(value, float) and math.isfinite(value):
        value = round(value)
    return value if type(value) is int and low <= value <= high else None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameTimes:
    """What frame_timestamps.jsonl says of one segment."""

    picture: NDArray[np.int64]
    """(K,) which picture, ascending."""
    taken_us: NDArray[np.int64]
    """(K,) Unix time at which it was taken."""
    copies: int
    """Pictures that repeat the one before, in place of lost ones."""


def read_frame_times(path: Path | None, *, start: int, num_frames: int) -> FrameTimes:
    """Read the records of a segment's pictures; those that make no sense are passed over."""
    taken: dict[int, int] = {}
    copies = set[int]()
    for line in () if path is None else log_lines(path):
        try:
            record = parse_object(line)
        except Rejected:
            continue
        number = _whole(record.get("frame"), start, start + num_frames - 1)
        milli = record.get("t_capture_unix_ms")
        if number is None or not isinstance(milli, (int, float)) or not 0 < milli < _MAX_MILLI:
            continue
        taken[number - start] = round(milli * 1000)
        if record.get("duplicate") is True:
            copies.add(number)
    order = sorted(taken)
    return FrameTimes(
        picture=np.array(order, np.int64),
        taken_us=np.array([taken[picture] for picture in order], np.int64),
        copies=len(copies),
    )


def clock_pairs(
    times: FrameTimes, pts_us: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (K,) container times and (K,) Unix times of the pictures that have both.

    Args:
        pts_us: (P,) container time of each picture.
    """
    return pts_us[times.picture], times.taken_us
