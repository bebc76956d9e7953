"""Reads the inputs.jsonl of a `gameplay-session/1` recording. Knows nothing of its video.

One JSON object a line. A line is an event, a copy of an earlier one, blank, or rejected: nothing
else can happen to it, and copies and rejected lines are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from playmill.inputs.event_table import EventTable, checked_time, what
from playmill.inputs.events import InputEvents
from playmill.inputs.lines import Rejected, shown
from playmill.inputs.reader import PLAIN, Anchor, Clock, LogFiles, ReadOptions, VideoTimes

MAX_COUNTS = 1 << 24
"""Largest |dx|, |dy|, |delta|: up to here every whole number is exact in float32."""

_MOVE, _SCROLL = what("mouse", "move"), what("mouse", "scroll")
_SWITCHES = {
    "key_down": ("key", "keyboard", what("keyboard", "press")),
    "key_up": ("key", "keyboard", what("keyboard", "release")),
    "mouse_down": ("button", "mouse", what("mouse", "press")),
    "mouse_up": ("button", "mouse", what("mouse", "release")),
}
"""type -> field of the name, device, device and kind in one number"""


def _whole(event: dict[str, Any], name: str) -> int:
    """Return field `name`, a whole number that float32 holds exactly."""
    value = event.get(name)
    if type(value) is not int:
        found = f"is {shown(value)}" if name in event else "is missing"
        raise Rejected(f'"{name}" {found}, not an int')
    if not -MAX_COUNTS <= value <= MAX_COUNTS:
        raise Rejected(f'"{name}" is beyond +-{MAX_COUNTS}')
    return value


def _add(table: EventTable, event: dict[str, Any], line: bytes) -> None:
    """Add the event on `line` to `table`, or raise Rejected."""
    if "t" not in event:
        raise Rejected('"t" is missing, not an int')
    time_us = checked_time(event["t"], "t")
    kind = event.get("type")
    if kind == "mouse_move":
        x, y = _whole(event, "dx"), _whole(event, "dy")
        table.add(time_us, _MOVE, x=x, y=y, raw=line)
    elif kind == "mouse_wheel":
        table.add(time_us, _SCROLL, y=_whole(event, "delta"), raw=line)
    elif type(kind) is str and kind in _SWITCHES:
        name, device, switched = _SWITCHES[kind]
        table.add(time_us, switched, code=_code(event, name, device, table), raw=line)
    else:
        raise Rejected('"type" is unknown' if "type" in event else '"type" is missing')


def _code(event: dict[str, Any], field_name: str, device: str, table: EventTable) -> int:
    name = event.get(field_name)
    if type(name) is not str:
        found = f"is {shown(name)}" if field_name in event else "is missing"
        raise Rejected(f'"{field_name}" {found}, not a name')
    return table.code(device, name, field_name=field_name)


@dataclass(frozen=True, kw_only=True, slots=True)
class GameplaySessionReader:
    """The reader of `gameplay-session/1`: times in Unix microseconds, mouse moves in counts."""

    name: str = "gameplay-session/1"
    """Name of the log format."""
    policies: tuple[str, ...] = ()
    """Any policy, the first of all by default."""
    default_window_us: int | None = 100_000
    """Largest distance of an event from its frame, where the user names none."""
    private: tuple[str, ...] = ()
    """Nothing in session.json is dropped."""

    def find(self, video: Path) -> LogFiles | None:
        """Return None: session.json names the files of such a recording."""
        return None

    def clock(self, files: LogFiles) -> Clock:
        """Return "unix_us"."""
        return "unix_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Return None: session.json, or the user, says when pts 0 was."""
        return None

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole: lines by time (stable), copies left out, bad lines kept apart.

        Of byte-identical lines (line ends aside) the first is kept. Key auto-repeat stays. Fields
        that the format does not name are ignored, blank lines and a byte order mark too.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines is an event.
        """
        table = EventTable()
        expected = "one JSON object a line, as gameplay-session/1 describes"
        table.add_objects(files.log, partial(_add, table), expected=expected)
        return table.freeze(drop_copies=True)
