"""One case: the files of a recording, and whether its reader takes them as it should."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np

from playmill.errors import RecordingError
from playmill.inputs import (
    InputEvents,
    InputReader,
    LogFiles,
    ReadOptions,
    RejectedLines,
    VideoTimes,
)
from playmill.inputs.reader import anchor_of
from tests.fuzz.properties import check_events, check_size

MAX_SECONDS = 2.0
"""Processor time that any case may take."""
MAX_GROWTH_KB = 64 << 10
"""Memory that any case may add to the process."""
FRAME_TICKS = 512
_STARTS = (0, 0, 0, 7, -1024, 2**60)
_ABOUT = "case.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What a reader is given."""

    files: dict[str, bytes]
    """Content by name, the log included."""
    num_frames: int = 0
    first_pts: int = 0
    keep_text: bool = False
    anchored: bool = True
    """Whether the reader places the video, too."""

    @classmethod
    def of(cls, rng: Random, files: dict[str, bytes]) -> Case:
        """Return a case with some video."""
        return cls(
            files=files,
            num_frames=rng.randrange(9),
            first_pts=rng.choice(_STARTS),
            keep_text=rng.random() < 0.5,
            anchored=rng.random() < 0.3,  # it costs more than reading
        )

    def video(self) -> VideoTimes:
        """Return the times of a video of 20 frames a second."""
        return VideoTimes(
            pts=self.first_pts + FRAME_TICKS * np.arange(self.num_frames, dtype=np.int64),
            time_base=Fraction(1, 20 * FRAME_TICKS),
            clock_marks=np.zeros((0, 2), np.int64),
        )

    def options(self) -> ReadOptions:
        """Return what reading depends on besides the files."""
        line_us = 1_000_000 + 50_000 * np.arange(self.num_frames, dtype=np.int64)
        return ReadOptions(line_us=line_us, keep_text=self.keep_text)

    def write(self, folder: Path) -> None:
        """Make `folder` hold these files and no others."""
        for path in folder.iterdir():
            if path.name not in self.files:
                path.unlink()
        for name, content in self.files.items():
            (folder / name).write_bytes(content)

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder)
        about = {
            "frames": self.num_frames,
            "first": self.first_pts,
            "text": self.keep_text,
            "anchored": self.anchored,
        }
        (folder / _ABOUT).write_text(json.dumps(about))

    @classmethod
    def load(cls, folder: Path) -> Case:
        """Read what `save` wrote."""
        about = json.loads((folder / _ABOUT).read_text())
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != _ABOUT}
        return cls(
            files=files,
            num_frames=about["frames"],
            first_pts=about["first"],
            keep_text=about["text"],
            anchored=about["anchored"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A reader, and how to make and judge cases for it."""

    reader: InputReader
    video: str
    """Name of the video; it is not there."""
    log: str
    make: Callable[[Random], dict[str, bytes]]
    """Return the files of a recording, changed."""
    account: Callable[[Case, Path, InputEvents], None]
    """Raise AssertionError unless all lines are events, rejected, or ignored by a rule."""


def check(target: Target, case: Case, folder: Path) -> bool:
    """Let the reader take a case in `folder`; return whether it read it.

    Raises:
        Exception: anything but a RecordingError is the reader's fault.
    """
    case.write(folder)
    video = folder / target.video
    started, grown = time.process_time(), _peak_kb()
    events = _read(target, case, video)
    seconds = time.process_time() - started
    grown = _peak_kb() - grown
    assert seconds < MAX_SECONDS, f"{seconds:.1f} s of processor time"
    assert grown < MAX_GROWTH_KB, f"{grown} kB more memory"
    if events is None:
        return False
    check_events(events)
    check_size(events, sum(map(len, case.files.values())))
    target.account(case, folder, events)
    return True


def _read(target: Target, case: Case, video: Path) -> InputEvents | None:
    """Do what a recording goes through; None: it is no good, and the reader said so."""
    events = None
    found = None
    with contextlib.suppress(RecordingError):
        found = target.reader.find(video)
    files = found or LogFiles(video=video, log=video.with_name(target.log))
    try:
        events = target.reader.read(files, case.options())
    except RecordingError as error:
        said = error.found, error.expected, error.action
        assert all(said), "an error that does not say what is wrong and what to do"
    if case.anchored:
        with contextlib.suppress(RecordingError):
            anchor_of(target.reader, files, case.video())
    return events


def digest(target: Target, case: Case, folder: Path) -> str:
    """Return a hash of all that the reader makes of a case: two readers that agree give the same.

    The case's own folder is left out of what is said.
    """
    case.write(folder)
    video = folder / target.video
    found: list[object] = []
    try:
        files = target.reader.find(video)
    except RecordingError as error:
        files = None
        found.append(str(error))
    files = files or LogFiles(video=video, log=video.with_name(target.log))
    found.append(files)
    steps: list[Callable[[], object]] = [
        lambda: _parts(target.reader.read(files, case.options())),
        lambda: anchor_of(target.reader, files, case.video()),
    ]
    for step in steps if case.anchored else steps[:1]:
        try:
            found.append(step())
        except RecordingError as error:
            found.append(str(error))
    text = repr(found).replace(str(folder), "")
    return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=16).hexdigest()


def _parts(value: object) -> object:
    """Return the fields of a dataclass as plain values, arrays as their bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, (InputEvents, RejectedLines)):
        return [(each.name, _parts(getattr(value, each.name))) for each in fields(value)]
    return value


def _peak_kb() -> int:
    """Return the most memory that this process has had; `resource` counts its parent's, too."""
    with open("/proc/self/status", "rb") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(b"VmHWM:"))
