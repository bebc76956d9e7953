"""Reads the recordings of open-p2p (Recap): video.mp4 or 192x192.mp4 beside annotation.proto.

Annotation i was written when picture i was taken: it has what was held then, and what happened
since picture i - 1. So what the player did on seeing frame i is annotation i + 1, and annotation 0
is no frame's. There are as many annotations as pictures, or a warning.

Two kinds of files, told apart by whether any annotation has `input_events`:
    - With events, each has its own time, on the clock of `frame_time` (nanoseconds since recording
      began). The video's pts are those times made even (20 a second), so a time is moved to the
      place between two frames that it has between their `frame_time`s. Then the policy `following`
      is the format's own rule, whatever the jitter, and no event leaves its annotation. What an
      annotation says is held corrects keys and buttons (kind state): some were held from the start.
    - Without, labels alone are left: what differs between annotations i and i + 1 is put at frame
      i's time, so that the keys held at frame i are those of its label, by every policy.

Moves are in counts. Keys of a person that are unknown (`is_known` false, mostly because a model
played) are masked `unknown`; what a model did is masked `simulated`, and its events stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.clock_fit import clock_report
from playmill.inputs.event_table import EventTable, checked_time, what
from playmill.inputs.events import InputEvents, Mask
from playmill.inputs.line_times import LineTimes, line_masks
from playmill.inputs.lines import MAX_LINE_BYTES, Rejected, check_log_file
from playmill.inputs.p2p_messages import (
    FRAME_ANNOTATIONS,
    TOP_LEVEL,
    Action,
    Annotation,
    Happened,
    glance,
    read_annotation,
    read_event,
    split_event,
)
from playmill.inputs.protobuf_wire import field_span
from playmill.inputs.reader import (
    PLAIN,
    Anchor,
    Clock,
    LogFiles,
    ReadOptions,
    VideoTimes,
    check_only_video,
)
from playmill.inputs.w3c import w3c_code
from playmill.phrases import plural

TICK_US = 50_000
"""Time between two pictures, where nothing says what it was."""
_NAMES = re.compile(r"(video|\d+x\d+)\.mp4", re.IGNORECASE)
_LOG = "annotation.proto"
_OPENING_BYTES = 20
MAX_KNOWN = 1 << 14
"""Events that are remembered but for their time."""


def _annotations(log: Path) -> Iterator[bytes | Rejected]:
    """Yield each annotation; last, why the file cannot be read further, if it cannot.

    Memory is bounded by `MAX_LINE_BYTES`: of a longer one comes the beginning (still too long).
    """
    check_log_file(log)
    with log.open("rb") as file:
        size = file.seek(0, 2)
        place = file.seek(0)
        while place < size:
            opening = file.read(_OPENING_BYTES)
            try:
                tag, _, start, stop = field_span(opening)
                if place + stop > size:
                    raise Rejected(f"ends {place + stop - size} bytes after the file")
            except Rejected as error:
                yield Rejected(f"the file cannot be read from byte {place} on: {error}")
                return
            if tag == FRAME_ANNOTATIONS:
                file.seek(place + start)
                yield file.read(min(stop - start, MAX_LINE_BYTES + 1))
            place = file.seek(place + stop)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outline:
    """What has to be known of all annotations before the first is read."""

    frame_us: list[int]
    """When each picture was taken; 0: not said."""
    has_events: bool


def read_outline(log: Path) -> _Outline:
    """Look at every annotation once."""
    frame_us: list[int] = []
    has_events = False
    for content in _annotations(log):
        if isinstance(content, bytes):
            frame_ns, events = glance(content)
            frame_us.append(frame_ns // 1000)
            has_events |= events
    return _Outline(frame_us=frame_us, has_events=has_events)


def clock_pairs(
    frame_us: list[int], pts_us: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (K,) container times and (K,) recorder's times of the pictures that have both.

    Args:
        frame_us: when each picture was taken; 0: not said.
        pts_us: (P,) container time of each frame.
    """
    taken = np.array(frame_us[: len(pts_us)], np.int64)
    known = taken > 0
    return pts_us[: len(taken)][known], taken[known]


@dataclass(kw_only=True, slots=True)
class _Log:
    """A log while it is read."""

    outline: _Outline
    frames: list[int]
    """Time of the picture of each annotation."""
    table: EventTable = field(default_factory=EventTable)
    key_codes: dict[str, str] = field(default_factory=dict)
    known: dict[bytes, tuple[Happened, int, int]] = field(default_factory=dict)
    """What happened, by `split_event`, with device and kind in one number, and the code."""
    held: set[tuple[str, str]] = field(default_factory=set)
    """Device and name of what is down."""
    axes: dict[str, float] = field(default_factory=dict)
    pointer: tuple[float, float] | None = None
    seen: bool = False
    """The annotation before said what was held."""
    count: int = 0
    """Annotations so far."""
    sound: int = 0
    unknown: bytearray = field(default_factory=bytearray)
    """Of each annotation, as the one below."""
    simulated: bytearray = field(default_factory=bytearray)

    def add(self, content: bytes) -> None:
        """Take the next annotation."""
        known = simulated = False
        try:
            if len(content) > MAX_LINE_BYTES:
                raise Rejected(f"is longer than {MAX_LINE_BYTES} bytes")
            annotation = read_annotation(content)
            simulated = annotation.system_known
            if self.outline.has_events:
                simulated |= self._add_events(annotation)
            user = annotation.user
            if user is not None and user.known:
                self._add_label(user, content)
                known = True
            self.sound += 1
        except Rejected as error:
            self.table.rejects.add(self.count + 1, str(error), content)
        self.seen = known
        self.unknown.append(not known)
        self.simulated.append(simulated)
        self.count += 1

    def _start_us(self) -> int:
        """Return the time of the frame whose label this annotation is: the picture before."""
        return self.frames[self.count - 1] if self.count else max(self.frames[0] - TICK_US, 0)

    def _stop_us(self) -> int:
        """Return the time of this annotation's own picture."""
        return max(self.frames[self.count], self._start_us())

    def _add_all(self, time_us: int, inputs: list[Happened], raw: bytes) -> None:
        """Add inputs of one time, all or (Rejected) none; the first one carries `raw`."""
        checked_time(time_us, "time of its frame")
        codes = [self._code(done) for done in inputs]
        for done, code in zip(inputs, codes, strict=True):
            event = what(done.device, done.kind)
            self.table.add(time_us, event, code=code, x=done.x, y=done.y, raw=raw)
            raw = b""
            self._remember(done)

    def _code(self, done: Happened) -> int:
        if not done.name:
            return -1
        code = self.table.code(done.device, done.name, field_name=f"{done.device} name")
        if done.device == "keyboard":
            self.key_codes.setdefault(done.name, w3c_code(done.name))
        return code

    def _remember(self, done: Happened) -> None:
        kind = done.kind
        if kind == "press" or (kind == "state" and done.x):
            self.held.add((done.device, done.name))
        elif kind in ("release", "state"):
            self.held.discard((done.device, done.name))
        elif kind == "axis":
            self.axes[done.name] = done.x
        elif kind == "position":
            self.pointer = done.x, done.y

    def _add_events(self, annotation: Annotation) -> bool:
        """Add the annotation's events; return whether a model made any of them."""
        if not annotation.events:
            return False
        simulated, moved = False, self._mover()
        for raw in annotation.events:
            try:
                parts = split_event(raw)
                known = None if parts is None else self.known.get(parts[0])
                if parts is not None and known is not None:
                    time_us = checked_time(moved(parts[1] // 1000), "time of its frame")
                    done, event, code = known
                    self.table.add(time_us, event, code=code, x=done.x, y=done.y, raw=raw)
                    self._remember(done)
                    continue
                time_ns, by_model, done = read_event(raw)
                self._add_all(moved(time_ns // 1000), [done], raw)
                simulated |= by_model
                if parts is not None and len(self.known) < MAX_KNOWN:
                    self.known[parts[0]] = done, what(done.device, done.kind), self._code(done)
            except Rejected as error:
                self.table.rejects.add(self.count + 1, str(error), raw)
        return simulated

    def _mover(self) -> Callable[[int], int]:
        """Return what gives the place between two frames' times that a time of this annotation has
        between their pictures.

        At neither frame's own time: what the annotation before says was held there is without it,
        and no policy that compares times gives it to another frame.
        """
        start, stop = self._start_us(), self._stop_us()
        taken = self.outline.frame_us[self.count]
        if not self.count:
            return lambda time_us: max(stop - max(taken - time_us, 1), 0)
        before = self.outline.frame_us[self.count - 1]
        last = max(stop - 1, start)
        first = min(start + 1, last)
        if not 0 < before < taken:
            return lambda time_us: first
        period, frame = taken - before, stop - start

        def moved(time_us: int) -> int:
            place = start + (time_us - before) * frame // period
            return first if place < first else last if place > last else place

        return moved

    def _add_label(self, user: Action, content: bytes) -> None:
        """Add what the label says: all of it where there are no events, else what they missed."""
        if self.outline.has_events:
            self._add_all(self._stop_us(), self._switched(user, seen=False), b"")
            return
        inputs = self._switched(user, seen=self.seen)
        for name, value in user.axes:
            if self.axes.get(name, 0.0) != value:
                inputs.append(Happened(device="gamepad", kind="axis", name=name, x=value))
        for done in user.moves:
            if (done.x, done.y) != (self.pointer if done.kind == "position" else (0, 0)):
                inputs.append(done)
        self._add_all(self._start_us(), inputs, content)

    def _switched(self, user: Action, *, seen: bool) -> list[Happened]:
        """Return the differences of what is held and what was.

        Args:
            seen: what was held is known, so that they are presses and releases, no corrections.
        """
        now = {("keyboard", name) for name in user.keys} | user.buttons
        inputs = []
        for device, name in sorted(now ^ self.held):
            down = (device, name) in now
            kind = ("press" if down else "release") if seen else "state"
            x = float(down and not seen)
            inputs.append(Happened(device=device, kind=kind, name=name, x=x))
        return inputs

    def masks(self, num_frames: int) -> list[Mask]:
        """Return what is known of the frames' labels; frames without one are unknown."""
        if not self.count:
            return []
        # Annotation 0 is the label of no frame: it ends before the first.
        time_us = np.array([self.frames[0] - 1, *self.frames[: self.count - 1]], np.int64)
        found = line_masks("unknown", np.frombuffer(self.unknown, np.bool_), time_us)
        found += line_masks("simulated", np.frombuffer(self.simulated, np.bool_), time_us)
        rest = self.frames[self.count - 1 : num_frames]
        if rest:
            found.append(Mask(name="unknown", start_us=rest[0], stop_us=rest[-1] + 1))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class P2pReader:
    """The reader of `open-p2p`: what was done on seeing frame i is annotation i + 1."""

    name: str = "open-p2p"
    """Name of the log format."""
    policies: tuple[str, ...] = ()
    """Any policy; "following" is the format's own rule."""
    default_window_us: int | None = 100_000
    """Largest distance of an event from its frame, where the user names none."""
    private: tuple[str, ...] = ()
    """No metadata is kept."""

    def find(self, video: Path) -> LogFiles | None:
        """Return annotation.proto beside video.mp4 or a video named after its size."""
        log = video.with_name(_LOG)
        if not _NAMES.fullmatch(video.name) or not log.is_file() or not _looks_right(log):
            return None
        return LogFiles(video=video, log=log)

    def clock(self, files: LogFiles) -> Clock:
        """Return "log_us": nanoseconds since recording began."""
        return "log_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place the video on the recorder's clock, which began when it did.

        Raises:
            MissingStream: there is no log.
            ClockError: two videos lie beside it, such as a recording's and its small copy.
        """
        beside = files.video.parent.iterdir()
        check_only_video(files.log, [path for path in beside if _NAMES.fullmatch(path.name)])
        outline = read_outline(files.log)
        warnings = []
        if len(outline.frame_us) != len(video.pts):
            warnings.append(
                f"{plural(len(outline.frame_us), 'annotation')} for"
                f" {plural(len(video.pts), 'frame')}: they are paired from the first on"
            )
        pts_us, taken_us = clock_pairs(outline.frame_us, video.pts_us())
        first_us = int(video.pts_us()[0]) if len(video.pts) else 0
        # Recording began a tick before the first picture, where nothing says how long.
        pts_zero_us = TICK_US - first_us
        if len(pts_us):
            pts_zero_us = int(np.median(taken_us - pts_us))
        else:
            warnings.append("no annotation says when its picture was taken: times are the video's")
        return Anchor(
            pts_zero_us=pts_zero_us,
            clock="log_us",
            line_pts=tuple(video.pts.tolist()),
            report=clock_report(pts_us, taken_us, source="frame_time"),
            warnings=tuple(warnings),
        )

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole; rejected "lines" are annotations, or one of its events, from 1 on.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one annotation can be read.
        """
        outline = read_outline(files.log)
        frames = [] if options.line_us is None else options.line_us.tolist()
        times = LineTimes(frames=frames, tick_us=TICK_US)
        log = _Log(outline=outline, frames=[times.next(us or None) for us in outline.frame_us])
        for content in _annotations(files.log):
            if isinstance(content, bytes):
                log.add(content)
            else:
                log.table.rejects.add(log.count + 1, str(content), b"")
        log.table.rejects.check_some_event(
            files.log, log.sound, "a VideoAnnotation message with frame annotations"
        )
        log.frames += frames[log.count :]
        return log.table.freeze(
            mouse_unit=log.table.mouse_unit(of_positions="pixels"),
            w3c_codes=log.key_codes,
            masks=log.masks(len(frames)),
        )


def _looks_right(log: Path) -> bool:
    """Return whether a file begins like the message it should be."""
    try:
        with log.open("rb") as file:
            opening = file.read(_OPENING_BYTES)
            size = file.seek(0, 2)
        tag, _, _, stop = field_span(opening)
    except (OSError, Rejected):
        return False
    return TOP_LEVEL.get(tag >> 3) == tag & 7 and stop <= size
