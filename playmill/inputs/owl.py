"""Reads the inputs.csv of OWL Control: recording.mp4, inputs.csv and metadata.json in a folder.

A line is `timestamp,event_type,event_args`: Unix seconds in decimal, a name, and JSON in quotes,
which the recorder does not double and its documentation does. So a line is split at its first two
commas, and no parser of CSV would do.

Source:
    Wayfarer-Labs/owl-control
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from playmill.errors import ClockError
from playmill.inputs.event_table import MAX_TIME_US, EventTable, what
from playmill.inputs.events import DEVICES, InputEvents, Mask
from playmill.inputs.exact_numbers import amount, decimal_us, true_or_false
from playmill.inputs.lines import Rejected, decoded, log_lines, parse_json, shown
from playmill.inputs.marked_length import length_warnings
from playmill.inputs.reader import PLAIN, Anchor, Clock, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.snapshots import Snapshots
from playmill.inputs.windows_keys import W3C_BY_NUMBER, WHEEL_DELTA

LOG, METADATA, VIDEO = "inputs.csv", "metadata.json", "recording"
HEADER = "timestamp,event_type,event_args"
INVALID = (".invalid", ".server_invalid")
"""Files with which the recorder says that a recording is no good, and why."""
MAX_REASON_BYTES = 500

_OTHER = {device: what(device, "other") for device in DEVICES}
_SWITCH = {device: (what(device, "release"), what(device, "press")) for device in DEVICES}
_AXIS, _MOVE, _SCROLL = what("gamepad", "axis"), what("mouse", "move"), what("mouse", "scroll")
_SHORT, _MAX_KNOWN = 64, 1 << 14
"""Length of arguments that are remembered, and how many: the same come again and again."""
_Part = tuple[int, int, float, float]
"""Device and kind, code or -1, x, y."""


def _split(line: bytes) -> tuple[int, str, str]:
    """Return time, event type and JSON of a line."""
    fields = decoded(line).split(",", 2)
    if len(fields) < 3:
        raise Rejected(f"has {len(fields)} fields, not timestamp, event_type and event_args")
    return decimal_us(fields[0].strip(), "s", "timestamp"), fields[1].strip(), fields[2].strip()


def _arguments(text: str) -> Any:
    """Return the JSON value of `event_args`, whose quotes may be doubled or not."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    try:
        return parse_json(text)
    except Rejected:
        if '""' not in text:
            raise
    return parse_json(text.replace('""', '"'))


def _list(value: object, *lengths: int) -> list[Any]:
    if type(value) is not list or len(value) not in lengths:
        count = " or ".join(map(str, lengths))
        raise Rejected(f'"event_args" is {shown(value)}, not a list of {count}')
    return value


@dataclass(kw_only=True, slots=True)
class _Log:
    """One log while it is read."""

    table: EventTable = field(default_factory=EventTable)
    snapshots: Snapshots = field(default_factory=lambda: Snapshots(settle_us=0))
    focus: list[tuple[int, bool]] = field(default_factory=list)
    """Time, and whether the game had the input from then on."""
    last_us: int = 0
    known: dict[tuple[str, str], list[_Part]] = field(default_factory=dict)
    """Event type and JSON -> what that says, whenever it is said."""

    def add(self, line: bytes) -> None:
        """Add the event on `line`, or raise Rejected."""
        time_us, event_type, text = _split(line)
        if event_type not in _TYPES:
            raise Rejected(f'"event_type" is {event_type[:40]!r}, none of {", ".join(_TYPES)}')
        device, take = _TYPES[event_type]
        parts = self.known.get((event_type, text))
        if parts is None:
            parts = take(self, time_us, _arguments(text)) or [(_OTHER[device], -1, 0, 0)]
            if take in _TIMELESS and len(text) <= _SHORT and len(self.known) < _MAX_KNOWN:
                self.known[event_type, text] = parts
        if time_us > self.last_us:
            self.last_us = time_us
        for event, code, x, y in parts:
            self.table.add(time_us, event, code=code, x=x, y=y, raw=line)
            line = b""
            if code >= 0 and event in _SWITCH[device]:
                down = event == _SWITCH[device][1]
                self.snapshots.switched(time_us, device, code, down=down)

    def marker(self, time_us: int, value: object) -> list[_Part]:
        return []

    def focused(self, time_us: int, value: object) -> list[_Part]:
        self.focus.append((time_us, True))
        return []

    def unfocused(self, time_us: int, value: object) -> list[_Part]:
        self.focus.append((time_us, False))
        return []

    def key(self, time_us: int, value: object) -> list[_Part]:
        vk, down = _list(value, 2)
        return [self._switch("keyboard", _name(vk), down)]

    def button(self, time_us: int, value: object) -> list[_Part]:
        button, down = _list(value, 2)
        return [self._switch("mouse", _name(button), down)]

    def move(self, time_us: int, value: object) -> list[_Part]:
        x, y = _list(value, 2)
        return [(_MOVE, -1, amount(x, "dx"), amount(y, "dy"))]

    def scroll(self, time_us: int, value: object) -> list[_Part]:
        (turned,) = _list(value, 1)
        return [(_SCROLL, -1, 0, amount(turned, "scroll") / WHEEL_DELTA)]

    def pad_button(self, time_us: int, value: object) -> list[_Part]:
        button, down, *pad = _list(value, 2, 3)
        return [self._switch("gamepad", _pad_name("button", button, pad), down)]

    def pad_button_value(self, time_us: int, value: object) -> list[_Part]:
        button, reached, *pad = _list(value, 2, 3)
        return [self._axis(_pad_name("button", button, pad), reached)]

    def pad_axis(self, time_us: int, value: object) -> list[_Part]:
        axis, reached, *pad = _list(value, 2, 3)
        return [self._axis(_pad_name("axis", axis, pad), reached)]

    def snapshot(self, time_us: int, value: object) -> list[_Part]:
        """Take down what is held when logging starts and ends."""
        inputs = value.get("inputs") if type(value) is dict else None
        if type(inputs) is not dict:
            raise Rejected('"event_args" has no object "inputs"')
        held = {
            device: [self._code(device, _name(item)) for item in _numbers(inputs[device], device)]
            for device in ("keyboard", "mouse")
            if inputs.get(device) is not None
        }
        pads = list(_pads(inputs))
        axes = [
            self._axis(_pad_name(kind, _number_text(name), pad), reached)
            for pad, parts in pads
            for kind, part in (("button", "analog"), ("axis", "axis"))
            for name, reached in _object(parts.get(part), part).items()
        ]
        if pads:
            held["gamepad"] = [
                self._code("gamepad", _pad_name("button", item, pad))
                for pad, parts in pads
                for item in _numbers(parts.get("digital") or [], "digital")
            ]
        for device, codes in held.items():
            self.snapshots.taken(time_us, device, codes)
        return [(_OTHER["other"], -1, 0, 0), *axes]

    def masks(self, end_us: int) -> list[Mask]:
        """Return the spans without focus; the last one goes on to `end_us`."""
        spans, start_us = [], None
        for time_us, focused in sorted(self.focus, key=lambda entry: entry[0]):
            if not focused and start_us is None:
                start_us = time_us
            elif focused and start_us is not None:
                spans.append(Mask(name="unfocused", start_us=start_us, stop_us=time_us))
                start_us = None
        if start_us is not None:
            spans.append(Mask(name="unfocused", start_us=start_us, stop_us=end_us))
        return spans

    def _code(self, device: str, name: str) -> int:
        return self.table.code(device, name, field_name="event_args")

    def _switch(self, device: str, name: str, down: object) -> _Part:
        event = _SWITCH[device][true_or_false(down, "down")]
        return event, self._code(device, name), 0, 0

    def _axis(self, name: str, reached: object) -> _Part:
        value = amount(reached, "value")
        return _AXIS, self._code("gamepad", name), value, 0


_Take = Callable[[_Log, int, object], list[_Part]]
_TYPES: MappingProxyType[str, tuple[str, _Take]] = MappingProxyType(
    {
        "START": ("other", _Log.snapshot),
        "END": ("other", _Log.snapshot),
        "VIDEO_START": ("other", _Log.marker),
        "VIDEO_END": ("other", _Log.marker),
        "HOOK_START": ("other", _Log.marker),
        "FOCUS": ("other", _Log.focused),
        "UNFOCUS": ("other", _Log.unfocused),
        "UNKNOWN": ("other", _Log.marker),
        "MOUSE_MOVE": ("mouse", _Log.move),
        "MOUSE_BUTTON": ("mouse", _Log.button),
        "SCROLL": ("mouse", _Log.scroll),
        "KEYBOARD": ("keyboard", _Log.key),
        "GAMEPAD_BUTTON": ("gamepad", _Log.pad_button),
        "GAMEPAD_BUTTON_VALUE": ("gamepad", _Log.pad_button_value),
        "GAMEPAD_AXIS": ("gamepad", _Log.pad_axis),
    }
)


_TIMELESS = frozenset(
    (
        _Log.marker,
        _Log.move,
        _Log.button,
        _Log.scroll,
        _Log.key,
        _Log.pad_button,
        _Log.pad_button_value,
        _Log.pad_axis,
    )
)
"""Those that do not look at the time: what they return for a text is the same on another line."""


def _name(number: object) -> str:
    if type(number) is not int or not 0 <= number <= 0xFFFF:
        raise Rejected(f"{shown(number)} is no number of a key, button or axis")
    return str(number)


def _pad_name(kind: str, number: object, pad: list[Any]) -> str:
    """Return "XInput:0:axis:1", or "axis:1" where the log does not say which gamepad."""
    if pad and type(pad[0]) is not str:
        raise Rejected(f"{shown(pad[0])} is no name of a gamepad")
    return ":".join([*pad, kind, _name(number)])


def _number_text(name: str) -> int:
    """Return the number that is the name of a field."""
    if not (name.isascii() and name.isdigit() and len(name) <= 5):
        raise Rejected(f"{name[:40]!r} is no number of a button or axis")
    return int(name)


def _numbers(value: object, name: str) -> Iterable[Any]:
    if type(value) is not list:
        raise Rejected(f'"{name}" is {shown(value)}, not a list')
    return value


def _object(value: object, name: str) -> dict[str, Any]:
    if value is not None and type(value) is not dict:
        raise Rejected(f'"{name}" is {shown(value)}, not an object')
    return value or {}


def _pads(inputs: dict[str, Any]) -> Iterable[tuple[list[Any], dict[str, Any]]]:
    """Yield ([id] or [], parts) of each gamepad; old logs do not tell them apart."""
    for pad, parts in _object(inputs.get("gamepads"), "gamepads").items():
        yield [pad], _object(parts, "gamepads")
    flat = {part: inputs.get(f"gamepad_{part}") for part in ("digital", "analog", "axis")}
    if any(part is not None for part in flat.values()):
        yield [], flat


def _moments(log: Path) -> dict[str, list[int]]:
    """Return the times of the lines that mark the video."""
    found: dict[str, list[int]] = {"VIDEO_START": [], "HOOK_START": [], "VIDEO_END": []}
    for line in log_lines(log):
        if b"VIDEO_" in line or b"HOOK_START" in line:
            try:
                time_us, event_type, _ = _split(line)
            except Rejected:
                continue
            if event_type in found and len(found[event_type]) < 1000:
                found[event_type].append(time_us)
    return found


def _verdicts(markers: Iterable[Path]) -> Iterator[str]:
    """Yield what the recorder says against the recording."""
    for path in markers:
        with path.open("rb") as file:
            reason = file.read(MAX_REASON_BYTES).decode(errors="replace")
        said = " ".join(reason.split())
        yield f"{path.name} lies beside it: {said or 'without a reason'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class OWLControlReader:
    """The reader of OWL Control: keys by virtual-key codes, gamepads with their ids."""

    name: str = "owl-control"
    """Name of the log format."""
    policies: tuple[str, ...] = ()
    """Any policy, the first of all by default."""
    default_window_us: int | None = 100_000
    """Largest distance of an event from its frame, where the user names none."""
    private: tuple[str, ...] = ("window_name", "hardware_id")
    """A window's title, and what names a person's computer."""

    def find(self, video: Path) -> LogFiles | None:
        """Return inputs.csv beside recording.mp4, if it begins as the recorder begins it.

        What marks the recording as invalid is one of its files: marked later, it is another one.
        """
        log, metadata = video.with_name(LOG), video.with_name(METADATA)
        if video.stem != VIDEO or not _begins_well(log):
            return None
        markers = (video.with_name(name) for name in INVALID)
        return LogFiles(
            video=video,
            log=log,
            metadata=metadata if metadata.is_file() else None,
            sides=tuple(marker for marker in markers if marker.is_file()),
        )

    def clock(self, files: LogFiles) -> Clock:
        """Return "unix_us"."""
        return "unix_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place pts 0 at VIDEO_START, or else at HOOK_START; START is earlier than the video.

        Raises:
            ClockError: the log has neither.
        """
        moments = _moments(files.log)
        starts = moments["VIDEO_START"] or moments["HOOK_START"]
        if not starts:
            raise ClockError(
                str(files.log),
                "",
                "no line VIDEO_START and none HOOK_START",
                "a line that says when the video began",
                "Measure when pts 0 was, and give --pts-zero-us.",
            )
        warnings = [*_verdicts(files.sides)]
        if not moments["VIDEO_START"]:
            warnings.append(
                "the log does not say when the video began: pts 0 is put at HOOK_START, when the"
                " first picture that is not black was taken; a black beginning makes it wrong"
            )
        if len(starts) > 1:
            warnings.append(f"the log says {len(starts)} times that the video began: the first")
        ends = moments["VIDEO_END"] if moments["VIDEO_START"] else []
        warnings += length_warnings(video, starts[0], max(ends, default=None))
        return Anchor(pts_zero_us=starts[0], warnings=tuple(warnings))

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole. START and END are events "other" and, where they say what the
        events before them do not, "state". Without focus, events stay and the mask says it.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines is an event.
        """
        log = _Log()
        log.table.add_lines(files.log, log.add, expected=f"lines {HEADER}", header=HEADER.encode())
        log.snapshots.correct(log.table)
        return log.table.freeze(
            w3c_codes=W3C_BY_NUMBER,
            masks=log.masks(min(log.last_us + 1, MAX_TIME_US)),
        )


def _begins_well(log: Path) -> bool:
    """Return whether the first line is the header or an event."""
    try:
        with log.open("rb") as file:
            lines = file.read(4096).removeprefix(b"\xef\xbb\xbf").splitlines()
        first = lines[0].strip() if lines else b""
        return first == HEADER.encode() or _split(first)[1] in _TYPES
    except (OSError, Rejected):
        return False
