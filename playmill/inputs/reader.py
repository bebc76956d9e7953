"""What a reader of one log format is: it finds its files, places the video in time, and reads.

Adding a format means adding a module here and a line to READERS, or, from outside, an entry point
of the group `playmill.readers` (docs/readers.md).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from playmill.config import MAX_TIME_US
from playmill.errors import ClockError
from playmill.inputs.events import InputEvents
from playmill.plan import frame_times_us

_MP4_LIKE = (".mp4", ".m4v", ".mov", ".3gp")
_MPEG_LIKE = (".ts", ".m2ts", ".mts", ".mpg", ".mpeg")
_OTHERS = (".mkv", ".webm", ".avi", ".flv", ".wmv", ".ogv")
VIDEO_SUFFIXES = frozenset((*_MP4_LIKE, *_MPEG_LIKE, *_OTHERS))

Clock = Literal["unix_us", "log_us", "stream"]
"""What a dataset's times count from: 1970, the log's own zero, or pts 0 of the video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFiles:
    """The files of one recording that belong to its video."""

    video: Path
    """The video file, or the folder of still pictures."""
    log: Path
    """The input log."""
    metadata: Path | None = None
    """A file with one JSON object about the session, kept in the dataset."""
    sides: tuple[Path, ...] = ()
    """Whatever else `anchor` or `read` look at."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoTimes:
    """What a video's container says of time, before a picture is decoded."""

    pts: NDArray[np.int64]
    """(P,) ticks of the pictures that are shown, strictly ascending, read-only."""
    time_base: Fraction
    """Seconds per tick."""
    clock_marks: NDArray[np.int64]
    """(K, 2) in-band wall clock: microseconds of container time, Unix microseconds."""

    def pts_us(self) -> NDArray[np.int64]:
        """Return (P,) the pictures' container times in microseconds.

        Raises:
            OverflowError: one lies beyond int64; `anchor_of` makes a ClockError of it.
        """
        return frame_times_us(self.pts, time_base=self.time_base, pts_zero_us=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """How a video lies on the clock of its log."""

    pts_zero_us: int
    """Time of pts 0 on the log's clock."""
    clock: Clock = "unix_us"
    """What that clock counts from; never "stream"."""
    line_pts: tuple[int, ...] | None = None
    """(P,) pts of the pictures that lines 0, 1, ... of the log belong to; None: lines have times
    of their own."""
    report: Mapping[str, Any] | None = None
    """The log's clock against the container's: `clock_fit`'s JSON form, where both are known."""
    warnings: tuple[str, ...] = ()
    """Sentences: what is wrong with the clock."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadOptions:
    """What reading a log may depend on besides its files."""

    line_us: NDArray[np.int64] | None = None
    """(P,) time of the picture of each line, where `Anchor.line_pts` named them."""
    keep_text: bool = False
    """Keep typed text and window titles, which are dropped unless asked for."""


PLAIN = ReadOptions()
"""Reading as it is unless asked otherwise."""


class InputReader(Protocol):
    """Turns the log of one format into `InputEvents`."""

    @property
    def name(self) -> str:
        """Name of the log format, as session.json or the command line gives it."""

    @property
    def policies(self) -> tuple[str, ...]:
        """Policies that make sense, the default first; () for any, "following" by default."""

    @property
    def default_window_us(self) -> int | None:
        """Largest distance of an event from its frame, where the user names none."""

    @property
    def private(self) -> tuple[str, ...]:
        """Names in the session's metadata that are dropped unless text is to be kept."""

    def find(self, video: Path) -> LogFiles | None:
        """Return the files if a log of this format lies beside `video`; decide by looking at it.

        Reads a few kilobytes at most, and takes nothing for certain that it has not seen there.
        """

    def clock(self, files: LogFiles) -> Clock:
        """Return what the log's times count from: asked where `anchor` cannot say when pts 0 was,
        and the user does. Never "stream".
        """

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place the video on the log's clock; None: the files do not say.

        Raises:
            ClockError, LogError: what should say it is missing or broken.
        """

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines is an event.
        """


def videos_beside(video: Path) -> list[Path]:
    """Return all videos in the folder of `video`, itself too; hidden files are none."""
    names = [name for name in os.listdir(video.parent) if not name.startswith(".")]
    return [video.with_name(name) for name in names if is_video(name)]


def is_video(name: str | Path) -> bool:
    """Return whether a file's name says that it is a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def check_only_video(log: Path, videos: Sequence[Path]) -> None:
    """Raise ClockError where `log`, the log of one video, has several beside it.

    Args:
        videos: all those whose log it may be.
    """
    if len(videos) > 1:
        names = ", ".join(sorted(video.name for video in videos)[:5])
        raise ClockError(
            str(log),
            "",
            f"{len(videos)} videos beside one log: {names}",
            "the one that was recorded with it",
            "Move the others away.",
        )


def anchor_of(reader: InputReader, files: LogFiles, video: VideoTimes) -> Anchor | None:
    """Return where a reader places the video.

    Raises:
        ClockError: the reader's own, or a video whose times lie beyond 64 bits.
    """
    try:
        found = reader.anchor(files, video)
        if found is None or abs(found.pts_zero_us) < MAX_TIME_US:
            return found
    except OverflowError:
        pass
    raise ClockError(
        str(files.video),
        "",
        "times of the stream beyond 64 bits",
        "times within +-2**62 us",
        "Convert the video so that its times begin at 0.",
    )
