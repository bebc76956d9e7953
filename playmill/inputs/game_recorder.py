"""Reads the segments of game-recorder: TIME_START_END.mp4 beside a .jsonl of the same name.

Frames have numbers that count on over all segments of a session; START is the number of a segment's
first, END the one after its last. A line has the inputs of one number, which is that of a frame as
long as the recorder kept up: later, the frame is `event_video_sync_offset` (meta.json) less. So
the inputs of line `frame` belong to picture

    frame - event_video_sync_offset - START

of the segment, by number and not by time: the policy is `line`. Their own times were not kept. An
offset moves inputs across the ends of a segment: those of the last pictures are in the next
segment's log, which is looked at, and those before the first picture stay unassigned.

The video begins when frame_timestamps.jsonl says that its pictures were taken; without that file,
as long after the session's start in meta.json as its first number says.

Source:
    https://github.com/Ksuriuri/game-recorder (action_writer, session_writer, input_hook)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.clock_fit import clock_report
from playmill.config import LINE_POLICY
from playmill.inputs.event_table import EventTable, checked_time, what
from playmill.inputs.events import InputEvents
from playmill.inputs.game_recorder_session import (
    FRAME_TIMES,
    MAX_FRAME,
    META,
    FrameTimes,
    Segment,
    clock_pairs,
    neighbours,
    read_frame_times,
    read_meta,
    read_segment,
)
from playmill.inputs.lines import Rejected, filled_lines, opening_objects, parse_object, shown
from playmill.inputs.reader import PLAIN, Anchor, Clock, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.windows_keys import WHEEL_DELTA, w3c_of_vk
from playmill.phrases import plural

MAX_COUNTS = 1 << 24
"""Largest number of counts: up to here every whole number is exact in float32."""
_BUTTONS = {
    f"{name}_{action}": (name, kind)
    for name in ("left", "right", "middle", "x", "x2")
    for action, kind in (("down", "press"), ("up", "release"))
}
"""action of a mouse event -> button, kind"""


@dataclass(kw_only=True, slots=True)
class _Log:
    """A log while it is read."""

    segment: Segment
    frames: list[int] | None
    """Time of each picture; None: the video is not known."""
    table: EventTable = field(default_factory=EventTable)
    key_codes: dict[str, str] = field(default_factory=dict)
    sound: int = 0

    def add(self, number: int, line: bytes) -> None:
        """Take one line of the segment's own log."""
        try:
            frame, events = _record(line)
            time_us = checked_time(self._time_us(self.segment.picture(frame)), "time of its frame")
        except Rejected as error:
            self.table.rejects.add(number, str(error), line)
            return
        self.sound += 1
        raw = kept = line
        for event in events:
            try:
                self._add_event(time_us, event, raw)
                raw = b""
            except Rejected as error:
                self.table.rejects.add(number, str(error), kept)
                kept = b""

    def add_neighbour(self, line: bytes) -> None:
        """Take what one line of the next segment's log, or the one before, has for this video."""
        try:
            frame, events = _record(line)
        except Rejected:
            return
        picture = self.segment.picture(frame)
        if self.frames is None or not 0 <= picture < len(self.frames):
            return
        raw = line
        for event in events:
            try:
                self._add_event(checked_time(self.frames[picture], ""), event, raw)
                raw = b""
            except Rejected:
                continue

    def _time_us(self, picture: int) -> int:
        """Return the time of a picture; of one that is not there, that it would have."""
        frames = self.frames or [0]
        if 0 <= picture < len(frames):
            return frames[picture]
        nearest = 0 if picture < 0 else len(frames) - 1
        return frames[nearest] + round((picture - nearest) * self.segment.period_us)

    def _add_event(self, time_us: int, event: object, raw: bytes) -> None:
        if not isinstance(event, dict):
            raise Rejected(f"an event is {shown(event)}, not an object")
        kind, action = event.get("type"), event.get("action")
        code, x, y = -1, 0.0, 0.0
        if kind == "key" and action in ("down", "up"):
            code = self._key(event)
            happened = what("keyboard", "press" if action == "down" else "release")
        elif kind != "mouse":
            raise Rejected('"type" or "action" of an event is unknown')
        elif action == "move":
            happened, x, y = _motion(event)
        elif action == "scroll":
            happened, y = what("mouse", "scroll"), _whole(event, "scroll_delta") / WHEEL_DELTA
        elif isinstance(action, str) and action in _BUTTONS:
            name, switched = _BUTTONS[action]
            code = self.table.code("mouse", name, field_name="action")
            happened = what("mouse", switched)
        else:
            raise Rejected('"type" or "action" of an event is unknown')
        self.table.add(time_us, happened, code=code, x=x, y=y, raw=raw)

    def _key(self, event: dict[str, Any]) -> int:
        vk, name = event.get("vk"), event.get("key")
        if type(vk) is not int or not 0 < vk < 256:
            raise Rejected(f'"vk" is {shown(vk)}, not an int from 1 to 255')
        if not isinstance(name, str) or not name:
            name = f"0x{vk:02X}"
        code = self.table.code("keyboard", name, field_name="key")
        self.key_codes.setdefault(name, w3c_of_vk(vk))
        return code


def _record(line: bytes) -> tuple[int, list[object]]:
    """Return number and events of a line; raise Rejected."""
    record = parse_object(line)
    frame, events = record.get("frame"), record.get("events")
    if type(frame) is not int or not -MAX_FRAME < frame < MAX_FRAME:
        raise Rejected(f'"frame" is {shown(frame)}, not an int below 2**32')
    if not isinstance(events, list):
        raise Rejected(f'"events" is {shown(events)}, not a list')
    return frame, events


def _motion(event: dict[str, Any]) -> tuple[int, float, float]:
    """Return kind and values of a move: by so much, or (absolute) to there."""
    if "dx" in event or "dy" in event:
        return what("mouse", "move"), _whole(event, "dx"), _whole(event, "dy")
    return what("mouse", "position"), _whole(event, "x"), _whole(event, "y")


def _whole(event: dict[str, Any], name: str) -> int:
    value = event.get(name)
    if type(value) is not int or not -MAX_COUNTS <= value <= MAX_COUNTS:
        raise Rejected(f'"{name}" is {shown(value)}, not an int within +-{MAX_COUNTS}')
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class GameRecorderReader:
    """The reader of `game-recorder`: inputs belong to pictures by number."""

    name: str = "game-recorder"
    """Name of the log format."""
    policies: tuple[str, ...] = (LINE_POLICY,)
    """Lines have the number of their frame, and no time."""
    default_window_us: int | None = None
    """Events have the times of their frames."""
    private: tuple[str, ...] = ("foreground_window",)
    """The title of the window that was recorded."""

    def find(self, video: Path) -> LogFiles | None:
        """Return the log beside a segment, and what else the session's folder says of it.

        meta.json becomes the metadata of a session's only segment; its session id would be that of
        all segments of a longer one.
        """
        log = video.with_suffix(".jsonl")
        if read_segment(video, None) is None or not log.is_file():
            return None
        meta: Path | None = video.with_name(META)
        meta = meta if meta is not None and meta.is_file() else None
        # A segment without inputs has an empty log.
        empty = log.stat().st_size == 0 and "event_video_sync_offset" in read_meta(meta)
        if not empty and not any(
            {"frame", "events"} <= line.keys() for line in opening_objects(log)
        ):
            return None
        others = neighbours(video)
        times = video.with_name(FRAME_TIMES)
        sides = [*others, *([times] if times.is_file() else [])]
        if others and meta is not None:
            sides.append(meta)
        return LogFiles(video=video, log=log, metadata=None if others else meta, sides=tuple(sides))

    def clock(self, files: LogFiles) -> Clock:
        """Return "unix_us"."""
        return "unix_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place the video where most of its pictures say that they were taken.

        Raises:
            MissingStream: frame_timestamps.jsonl is gone.
        """
        segment = _segment(files)
        pts_us = video.pts_us()
        times = _side(files, FRAME_TIMES)
        taken = read_frame_times(times, start=segment.start, num_frames=len(pts_us))
        pts_zero_us = _pts_zero_us(segment, taken, pts_us)
        unix = bool(len(taken.picture)) or segment.start_us is not None
        warnings = [*_warnings(segment, taken, len(pts_us))]
        if not unix:
            warnings.append("nothing says when the session began: its times count from there")
        return Anchor(
            pts_zero_us=pts_zero_us,
            clock="unix_us" if unix else "log_us",
            line_pts=tuple(video.pts.tolist()),
            report=clock_report(*clock_pairs(taken, pts_us), source="t_capture_unix_ms"),
            warnings=tuple(warnings),
        )

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole, and of the segments beside it what belongs to this one's pictures.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines has events.
        """
        frames = None if options.line_us is None else options.line_us.tolist()
        log = _Log(segment=_segment(files), frames=frames)
        for number, line in filled_lines(files.log):
            log.add(number, line)
        log.table.rejects.check_some_event(
            files.log, log.sound, 'one {"frame": number, "events": [...]} a line'
        )
        for path in files.sides:
            if path.name not in (META, FRAME_TIMES):
                for _, line in filled_lines(path):
                    log.add_neighbour(line)
        unit = log.table.mouse_unit(of_positions="1/65536 of the screen")
        return log.table.freeze(mouse_unit=unit, w3c_codes=log.key_codes)


def _side(files: LogFiles, name: str) -> Path | None:
    paths = (files.metadata, *files.sides)
    return next((path for path in paths if path is not None and path.name == name), None)


def _segment(files: LogFiles) -> Segment:
    return read_segment(files.video, _side(files, META)) or Segment(start=0, end=0)


def _pts_zero_us(segment: Segment, taken: FrameTimes, pts_us: NDArray[np.int64]) -> int:
    """Return the time of pts 0: Unix, or that of the session where nothing says when it began."""
    if len(taken.picture):
        container_us, unix_us = clock_pairs(taken, pts_us)
        return int(np.median(unix_us - container_us))
    number = segment.start + segment.offset
    begun_us = (segment.start_us or 0) + round(number * segment.period_us)
    return begun_us - (int(pts_us[0]) if len(pts_us) else 0)


def _warnings(segment: Segment, taken: FrameTimes, num_frames: int) -> Iterator[str]:
    yield from segment.warnings
    if num_frames != segment.end - segment.start:
        promised = segment.end - segment.start
        yield f"{plural(num_frames, 'frame')} in a video that should have {promised:,}"
    if segment.offset:
        yield f"inputs belong to the frame {segment.offset} before their number, as {META} says"
    if segment.dropped:
        yield (
            f"the recorder lost {plural(segment.dropped, 'frame')}: the number that inputs are"
            " moved by is that of the middle of the recording, and is not exact all the time"
        )
    if taken.copies:
        copies = plural(taken.copies, "copy", "copies")
        yield f"{copies} of frames put in by the recorder for lost ones"
