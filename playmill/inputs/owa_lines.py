"""Reads the JSON lines that Open World Agents' recorder wrote before it wrote MCAP.

`event.jsonl` (or NAME.jsonl) beside NAME.mkv. A line has Unix nanoseconds, who saw the event, and
the event as a text: a list whose words stand without quotes but for the first, so it is no JSON;
or, of a window, an object.

    {"timestamp_ns":17...,"event_src":"control_publisher","event_data":"[\\"mouse.move\\",9,8]"}

Source:
    open-world-agents/open-world-agents, docs/recorder/example.jsonl and the listeners (MIT)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playmill.inputs.event_table import EventTable, checked_time, what
from playmill.inputs.events import InputEvents
from playmill.inputs.exact_numbers import MAX_VALUE, amount
from playmill.inputs.lines import Rejected, json_lines, json_object, opening_objects
from playmill.inputs.owamcap_clock import subtitle_clock
from playmill.inputs.reader import PLAIN, Anchor, Clock, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.windows_keys import W3C_BY_NUMBER

LOG = "event.jsonl"
_FIELDS = {"timestamp_ns", "event_src", "event_data"}
_INPUTS, _WINDOWS = "control_publisher", "window_publisher"
_SWITCH = {
    device: {"false": what(device, "release"), "true": what(device, "press")}
    for device in ("keyboard", "mouse")
}
_KEYS = {"keyboard.press": "true", "keyboard.release": "false"}
_POSITION, _SCROLL = what("mouse", "position"), what("mouse", "scroll")
_LENGTHS = {"mouse.move": 3, "mouse.click": 5, "mouse.scroll": 5, **dict.fromkeys(_KEYS, 2)}
"""Name of an event -> how many words it has, its name included."""
_MOVE = re.compile(r'\["mouse\.move",(-?[0-9]{1,7}),(-?[0-9]{1,7})\]', re.A)
"""What `_Log._part` reads too, as the recorder writes it; a number of 7 digits is small enough."""
_SHORT, _MAX_KNOWN = 64, 1 << 10
"""Length of `event_data` that is remembered, and how many: the same keys go up and down."""
_Part = tuple[int, int, float, float]
"""Device and kind, code or -1, x, y."""


@dataclass(kw_only=True, slots=True)
class _Log:
    """One log while it is read."""

    keep_text: bool
    table: EventTable = field(default_factory=EventTable)
    known: dict[str, _Part] = field(default_factory=dict)
    """`event_data` -> what it says."""

    def add(self, event: dict[str, Any], line: bytes) -> None:
        """Add the event on `line`, or raise Rejected."""
        stamp = event.get("timestamp_ns")
        source, data = event.get("event_src"), event.get("event_data")
        time_us = checked_time(stamp, "timestamp_ns") // 1000
        if source == _WINDOWS:
            raw = line
            if not self.keep_text:
                raw = json.dumps({"timestamp_ns": stamp, "event_src": source}).encode()
            self.table.add(time_us, what("other", "other"), raw=raw)
            return
        if source != _INPUTS or type(data) is not str:
            raise Rejected(
                f'"event_src" is neither {_INPUTS} nor {_WINDOWS}, or "event_data" no text'
            )
        part = self.known.get(data)
        if part is None:
            move = _MOVE.fullmatch(data)
            if move is not None:  # as nearly all are, each to another place
                part = _POSITION, -1, int(move[1]), int(move[2])
            else:
                part = self._part(data)
                if len(data) <= _SHORT and len(self.known) < _MAX_KNOWN:
                    self.known[data] = part
        happened, code, x, y = part
        self.table.add(time_us, happened, code=code, x=x, y=y, raw=line)

    def _part(self, data: str) -> _Part:
        """Return what `event_data` says, or raise Rejected."""
        name, *words = _words(data)
        if len(words) + 1 != _LENGTHS.get(name):
            raise Rejected(f'"event_data" is none of {", ".join(_LENGTHS)}, or has other words')
        if name in _KEYS:
            vk = int(_number(words[0]))
            if not 0 < vk < 256:
                raise Rejected('"event_data" has a number that is no virtual-key code')
            code = self.table.code("keyboard", str(vk), field_name="event_data")
            return _SWITCH["keyboard"][_KEYS[name]], code, 0, 0
        if name == "mouse.click":
            if words[3] not in _SWITCH["mouse"]:
                raise Rejected('"event_data" says neither true nor false of a button')
            code = self.table.code("mouse", words[2], field_name="event_data")
            return _SWITCH["mouse"][words[3]], code, 0, 0
        if name == "mouse.scroll":  # where the pointer was, then how far it was turned
            return _SCROLL, -1, _number(words[2]), _number(words[3])
        return _POSITION, -1, _number(words[0]), _number(words[1])


def _words(data: str) -> list[str]:
    """Return what stands in the list, without quotes."""
    if not (data.startswith("[") and data.endswith("]")):
        raise Rejected('"event_data" is no list')
    return [word.strip().strip('"') for word in data[1:-1].split(",", 5)]


def _number(word: str) -> float:
    """Return a whole number."""
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_VALUE))):
        raise Rejected('"event_data" has a word that is no whole number')
    return amount(int(word), "event_data")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwaLinesReader:
    """The reader of `owa-jsonl`: times in Unix microseconds, keys by their virtual-key codes."""

    name: str = "owa-jsonl"
    """Name of the log format."""
    policies: tuple[str, ...] = ()
    """Any policy, the first of all by default."""
    default_window_us: int | None = None
    """The video holds changed pictures only: an event may lie far from the one on screen."""
    private: tuple[str, ...] = ()
    """There is no file of metadata."""

    def find(self, video: Path) -> LogFiles | None:
        """Return NAME.jsonl, or event.jsonl, beside NAME.mkv, if its first lines are events."""
        for log in (video.with_suffix(".jsonl"), video.with_name(LOG)):
            if any(line.keys() >= _FIELDS for line in opening_objects(log)):
                return LogFiles(video=video, log=log)
        return None

    def clock(self, files: LogFiles) -> Clock:
        """Return "unix_us"."""
        return "unix_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place pts 0 by the wall clock in the video's subtitle track; None without one."""
        if not len(video.clock_marks):
            return None
        anchor_us, fit = subtitle_clock(video)
        if fit is None:
            return Anchor(pts_zero_us=anchor_us)
        return Anchor(pts_zero_us=anchor_us, report=fit.to_json(), warnings=tuple(fit.findings))

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole. Windows are events "other"; of them, and of rejected lines, no text
        is kept unless asked for.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines is an event.
        """
        log = _Log(keep_text=options.keep_text)
        table = log.table
        for line_number, line, value in json_lines(files.log):
            try:
                log.add(json_object(value), line)
            except Rejected as error:
                kept = line if options.keep_text else b""  # it may be a window's
                table.rejects.add(line_number, str(error), kept)
        table.rejects.check_some_event(
            files.log, len(table), 'one JSON object a line, with "event_src" and "event_data"'
        )
        return table.freeze(mouse_unit="pixels", w3c_codes=W3C_BY_NUMBER)
