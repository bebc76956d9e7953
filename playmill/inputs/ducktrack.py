"""Reads the events.jsonl of DuckTrack: seconds of a monotonic clock, positions in pixels.

The recorder starts OBS, and metadata.json has the moments of that on the same clock. Times stay on
it: the log does not know what it is in Unix time.

Source:
    TheDuckAI/DuckTrack (MIT)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from playmill.errors import ClockError, LogError
from playmill.inputs.event_table import EventTable, what
from playmill.inputs.events import InputEvents
from playmill.inputs.exact_numbers import amount, json_us, true_or_false
from playmill.inputs.lines import Rejected, is_blank, opening_objects, parse_object, shown
from playmill.inputs.marked_length import length_warnings
from playmill.inputs.reader import (
    PLAIN,
    Anchor,
    Clock,
    LogFiles,
    ReadOptions,
    VideoTimes,
    check_only_video,
    videos_beside,
)

LOG, METADATA = "events.jsonl", "metadata.json"
TIMINGS = "obs_record_state_timings"
STARTED, STOPPING = "OBS_WEBSOCKET_OUTPUT_STARTED", "OBS_WEBSOCKET_OUTPUT_STOPPING"
RESUMED = "OBS_WEBSOCKET_OUTPUT_RESUMED"
MAX_METADATA_BYTES = 1 << 20

_MOVE, _SCROLL = what("mouse", "position"), what("mouse", "scroll")
_CLICK = what("mouse", "release"), what("mouse", "press")
_PAUSE = what("other", "other")
_WITHOUT_PAUSE = "a recording without pauses: the video has no time for them"
_CUT = "Cut the video at the pause, and take the events after it out of the log."
_KEYS = {"press": what("keyboard", "press"), "release": what("keyboard", "release")}


def _add(table: EventTable, log: Path, event: dict[str, Any], line: bytes) -> None:
    """Add the event on `line` of `log` to `table`, or raise Rejected.

    Raises:
        LogError: the recording goes on after a pause.
    """
    time_us = json_us(event.get("time_stamp"), "s", "time_stamp")
    action = event.get("action")
    if action == "move":
        x, y = amount(event.get("x"), "x"), amount(event.get("y"), "y")
        table.add(time_us, _MOVE, x=x, y=y, raw=line)
    elif action == "scroll":
        x, y = amount(event.get("dx"), "dx"), amount(event.get("dy"), "dy")
        table.add(time_us, _SCROLL, x=x, y=y, raw=line)
    elif action == "click":
        down = true_or_false(event.get("pressed"), "pressed")
        table.add(time_us, _CLICK[down], code=_code(event, "button", "mouse", table), raw=line)
    elif type(action) is str and action in _KEYS:
        code = _code(event, "name", "keyboard", table)
        table.add(time_us, _KEYS[action], code=code, raw=line)
    elif action == "pause":
        table.add(time_us, _PAUSE, raw=line)
    elif action == "resume":
        found = f"a recording that went on at {time_us} us after a pause"
        raise LogError(str(log), "action", found, _WITHOUT_PAUSE, _CUT)
    else:
        raise Rejected('"action" is unknown' if "action" in event else '"action" is missing')


def _code(event: dict[str, Any], field_name: str, device: str, table: EventTable) -> int:
    name = event.get(field_name)
    if type(name) is not str:
        raise Rejected(f'"{field_name}" is {shown(name)}, not a name')
    return table.code(device, _one_key(name), field_name=field_name)


def _one_key(name: str) -> str:
    """Return the key of a letter, whose sign depends on Shift and Ctrl when it goes down or up."""
    if len(name) != 1:
        return name
    letter = chr(ord(name) + 0x60) if "\x01" <= name <= "\x1a" else name.lower()
    return letter if len(letter) == 1 else name


def _has_timings(metadata: Path) -> bool:
    try:
        return bool(_timings(metadata))
    except ClockError:
        return False


def _timings(metadata: Path) -> dict[str, list[int]]:
    """Return the moments of OBS in microseconds by their names."""
    try:
        with metadata.open("rb") as file:
            content = parse_object(file.read(MAX_METADATA_BYTES), exact=True)
        timings = content.get(TIMINGS)
        if type(timings) is not dict or type(timings.get(STARTED)) is not list:
            raise Rejected(f'"{TIMINGS}" has no list "{STARTED}"')
        found = {
            name: [json_us(moment, "s", name) for moment in timings.get(name) or []]
            for name in (STARTED, STOPPING, RESUMED)
        }
        if not found[STARTED]:
            raise Rejected(f'"{STARTED}" is empty')
        return found
    except (OSError, Rejected, TypeError) as error:
        raise ClockError(
            str(metadata),
            TIMINGS,
            f"no moment when the video began ({error})",
            f"a list {STARTED} of seconds on the log's clock",
            "Restore the file, or give --pts-zero-us on the log's clock without it.",
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class DuckTrackReader:
    """The reader of DuckTrack: microseconds on the recorder's own monotonic clock."""

    name: str = "ducktrack"
    """Name of the log format."""
    policies: tuple[str, ...] = ()
    """Any policy, the first of all by default."""
    default_window_us: int | None = 100_000
    """Largest distance of an event from its frame, where the user names none."""
    private: tuple[str, ...] = ("id", "node")
    """The address of a network card and the name of a computer."""

    def find(self, video: Path) -> LogFiles | None:
        """Return events.jsonl beside `video`, if there is an event in its first lines.

        An empty one is the recorder's if metadata.json is, as after a session without inputs.
        """
        log, metadata = video.with_name(LOG), video.with_name(METADATA)
        known = any({"time_stamp", "action"} <= line.keys() for line in opening_objects(log))
        if not known and not (is_blank(log) and _has_timings(metadata)):
            return None
        return LogFiles(video=video, log=log, metadata=metadata if metadata.is_file() else None)

    def clock(self, files: LogFiles) -> Clock:
        """Return "log_us": seconds of a monotonic clock."""
        return "log_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place pts 0 at the moment when OBS said that it had started; None without metadata.

        Raises:
            ClockError: metadata.json does not have that moment, or has a pause after it; or several
                videos lie beside it.
        """
        if files.metadata is None:
            return None
        timings = _timings(files.metadata)
        if timings[RESUMED]:
            found = f"a recording that went on at {timings[RESUMED][0]} us after a pause"
            raise ClockError(str(files.metadata), RESUMED, found, _WITHOUT_PAUSE, _CUT)
        check_only_video(files.log, videos_beside(files.video))
        warnings = []
        if len(timings[STARTED]) > 1:
            count = len(timings[STARTED])
            warnings.append(f"OBS was started {count} times: the video is taken for the first")
        stops = [moment for moment in timings[STOPPING] if moment > timings[STARTED][0]]
        warnings += length_warnings(video, timings[STARTED][0], min(stops, default=None))
        return Anchor(pts_zero_us=timings[STARTED][0], clock="log_us", warnings=tuple(warnings))

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines is an event; or the recording
                goes on after a pause.
        """
        table = EventTable()
        expected = 'one JSON object a line, with "time_stamp" and "action"'
        add = partial(_add, table, files.log)
        table.add_objects(files.log, add, expected=expected, exact=True)
        return table.freeze(mouse_unit="pixels")
