"""Reads OWAMcap, the log of Open World Agents' recorder `ocap`: NAME.mcap beside NAME.mkv.

Events only; where the video lies on their clock is `owamcap_clock`'s. Nanoseconds become
microseconds by rounding down. An event's time is its message's `timestamp`, or the message's own
log time where that is missing or over 10 s away (it counts something else then).

Source:
    open-world-agents/open-world-agents, ocap and owa-msgs (MIT)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playmill.config import MAX_TIME_US
from playmill.inputs.event_table import EventTable, what
from playmill.inputs.events import DEVICES, InputEvents, Mask
from playmill.inputs.lines import Rejected, Rejects, parse_object, shown
from playmill.inputs.mcap_messages import Message, messages, profile
from playmill.inputs.owamcap_clock import clock_of
from playmill.inputs.reader import PLAIN, Anchor, Clock, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.snapshots import Snapshots
from playmill.inputs.windows_keys import SIDELESS, W3C_BY_NUMBER, WHEEL_DELTA

PROFILE = "owa"
SCREEN = "screen"
SETTLE_US = 50_000
"""Snapshots of held keys say nothing about a key with an event so near."""
MAX_COUNTS = 1 << 24
"""Largest move, position and scroll: up to here every whole number is exact in float32."""
MAX_STAMP_NS = 10_000_000_000
"""Farther from its log time, a message's `timestamp` is on some other clock."""

_MOUSE_KEYS = frozenset((1, 2, 4, 5, 6))
"""Virtual-key codes of mouse buttons, which /mouse/state has too."""
_EITHER_SIDE = frozenset(SIDELESS)
"""Shift, Ctrl and Alt whichever it is: snapshots have them beside the left or right key, which
events have alone."""
_SIDE_BUTTONS = frozenset(("x1", "x2"))
"""Buttons that snapshots never have, held or not."""
_RAW_BUTTONS = ((0x1, "left"), (0x4, "right"), (0x10, "middle"), (0x40, "x1"), (0x100, "x2"))
"""Flag of a press, the release's being the next bit, and what the topic `mouse` calls it."""
_WHEEL, _TILT = 0x400, 0x800
_ABSOLUTE = 1
_Part = tuple[int, int, float, float]
"""Device and kind, code or -1, x, y."""
_MOVE, _POSITION, _SCROLL = (what("mouse", kind) for kind in ("move", "position", "scroll"))
_OTHER = {device: what(device, "other") for device in DEVICES}
_SWITCH = {
    device: (what(device, "release"), what(device, "press")) for device in ("keyboard", "mouse")
}


def _whole(event: dict[str, Any], name: str, low: int, high: int) -> int:
    """Return field `name`, a whole number from low to high."""
    value = event.get(name)
    if type(value) is not int:
        raise Rejected(f'"{name}" is {_found(event, name)}, not an int')
    if not low <= value <= high:
        raise Rejected(f'"{name}" is not from {low} to {high}')
    return value


def _bits(event: dict[str, Any], name: str) -> int:
    """Return field `name`, 16 flags, all of them off if it is missing or null."""
    value = event.get(name)
    if value is None or (type(value) is int and not value):
        return 0
    return _whole(event, name, 0, 0xFFFF)


def _number(event: dict[str, Any], name: str, default: float | None = None) -> float:
    """Return field `name`, a number; `default` if it is missing or null."""
    found: Any = event.get(name)
    value: Any = default if found is None else found
    if (type(value) is not int and type(value) is not float) or not (
        -MAX_COUNTS <= value <= MAX_COUNTS
    ):
        raise Rejected(f'"{name}" is {_found(event, name)}, not a number up to {MAX_COUNTS}')
    return float(value)


def _found(event: dict[str, Any], name: str) -> str:
    return shown(event[name]) if name in event else "missing"


def _members(event: dict[str, Any], name: str, kind: type) -> set[Any]:
    """Return field `name`, a list of values of one type, as a set."""
    value = event.get(name)
    if type(value) is not list or not all(type(item) is kind for item in value):
        raise Rejected(f'"{name}" is {_found(event, name)}, not a list of {kind.__name__}')
    return set(value)


@dataclass(kw_only=True, slots=True)
class _Log:
    """One log while it is read."""

    table: EventTable
    snapshots: Snapshots
    path: Path
    keep_text: bool
    raw_kinds: set[str] = field(default_factory=set)
    """What moves of `mouse/raw` have become."""
    untold: set[int] = field(default_factory=set)
    """Codes of which snapshots say nothing."""
    _told: bool | None = None

    @property
    def mouse_unit(self) -> str:
        """Unit of moves: of those of `mouse/raw` if they count, else of positions."""
        if "move" in self.raw_kinds:
            return "counts"
        return "1/65536 of the screen" if "position" in self.raw_kinds else "pixels"

    @property
    def told(self) -> bool:
        """Whether the topic `mouse` has messages; asked for by those of `mouse/raw` alone."""
        if self._told is None:
            self._told = any(message.topic == "mouse" for message in messages(self.path, Rejects()))
        return self._told

    def keyboard(self, time_us: int, event: dict[str, Any], data: bytes) -> None:
        down = _choice(event, "event_type", {"press": True, "release": False})
        code = self._key(_whole(event, "vk", 1, 255))
        self._put(time_us, _SWITCH["keyboard"][down], code, 0, 0, data)

    def keyboard_state(self, time_us: int, event: dict[str, Any], data: bytes) -> None:
        held = sorted(_members(event, "buttons", int) - _MOUSE_KEYS - _EITHER_SIDE)
        if held and not 0 < held[0] <= held[-1] < 256:
            raise Rejected('"buttons" has a number that is no virtual-key code')
        self.snapshots.taken(time_us, "keyboard", [self._key(vk) for vk in held])
        self.table.add(time_us, _OTHER["keyboard"], raw=data)

    def mouse(self, time_us: int, event: dict[str, Any], data: bytes) -> None:
        kind = _choice(event, "event_type", {"move": "move", "click": "click", "scroll": "scroll"})
        if kind == "move":
            x, y = _number(event, "x"), _number(event, "y")
            self._put(time_us, _POSITION, -1, x, y, data)
        elif kind == "scroll":
            x, y = _number(event, "dx", 0), _number(event, "dy", 0)
            self._put(time_us, _SCROLL, -1, x, y, data)
        else:
            if type(event.get("pressed")) is not bool:
                raise Rejected(f'"pressed" is {_found(event, "pressed")}, not true or false')
            button = self._button(event.get("button"), "button")
            self._put(time_us, _SWITCH["mouse"][event["pressed"]], button, 0, 0, data)

    def mouse_state(self, time_us: int, event: dict[str, Any], data: bytes) -> None:
        held = _members(event, "buttons", str) - _SIDE_BUTTONS
        buttons = [self._button(name, "buttons") for name in sorted(held)]
        self.snapshots.taken(time_us, "mouse", buttons)
        self.table.add(time_us, _OTHER["mouse"], raw=data)

    def mouse_raw(self, time_us: int, event: dict[str, Any], data: bytes) -> None:
        """Add what the device itself said; buttons and wheel only if `mouse` does not tell them."""
        x, y = _number(event, "last_x"), _number(event, "last_y")
        absolute, flags = _bits(event, "us_flags") & _ABSOLUTE, _bits(event, "button_flags")
        if not absolute and not flags:  # as of nearly every message
            self.raw_kinds.add("move")
            self.table.add(time_us, _MOVE, x=x, y=y, raw=data)
            return
        more: list[_Part] = []
        if flags and not self.told:
            more = [*self._raw_clicks(flags), *_raw_turns(event, flags)]
        if x or y or absolute:
            kind = "position" if absolute else "move"
            if absolute and self.told:
                kind, x, y = "other", 0, 0  # the way that it went is in the positions of `mouse`
            self.raw_kinds.add(kind)
            more.insert(0, (what("mouse", kind), -1, x, y))
        for kind_of, code, x, y in more or [(_OTHER["mouse"], -1, 0, 0)]:
            self._put(time_us, kind_of, code, x, y, data)
            data = b""

    def _raw_clicks(self, flags: int) -> list[_Part]:
        return [
            (_SWITCH["mouse"][down], self._button(name, "button_flags"), 0, 0)
            for flag, name in _RAW_BUTTONS
            for bit, down in ((flag, True), (2 * flag, False))
            if flags & bit
        ]

    def window(self, time_us: int, event: dict[str, Any], data: bytes) -> None:
        if not self.keep_text:
            plain: dict[str, Any] = {
                name: event[name] for name in ("rect", "hWnd") if name in event
            }
            _only_numbers(plain)
            data = json.dumps(plain, separators=(",", ":")).encode()
        self.table.add(time_us, _OTHER["other"], raw=data)

    def _key(self, vk: int) -> int:
        code = self.table.code("keyboard", str(vk), field_name="vk")
        if vk in _EITHER_SIDE:
            self.untold.add(code)
        return code

    def _button(self, name: object, field_name: str) -> int:
        if type(name) is not str:
            raise Rejected(f'"{field_name}" is {shown(name)}, not a name')
        code = self.table.code("mouse", name, field_name=field_name)
        if name in _SIDE_BUTTONS:
            self.untold.add(code)
        return code

    def _put(self, time_us: int, event: int, code: int, x: float, y: float, data: bytes) -> None:
        """Add an event; note it if it is a press or release."""
        self.table.add(time_us, event, code=code, x=x, y=y, raw=data)
        if code >= 0 and code not in self.untold:
            for device, (release, press) in _SWITCH.items():
                if event in (release, press):
                    self.snapshots.switched(time_us, device, code, down=event == press)


def _choice(event: dict[str, Any], name: str, choice: dict[str, Any]) -> Any:
    value = event.get(name)
    if type(value) is not str or value not in choice:
        raise Rejected(f'"{name}" is {_found(event, name)}, none of {", ".join(choice)}')
    return choice[value]


def _raw_turns(event: dict[str, Any], flags: int) -> list[_Part]:
    """Return how far the wheels were turned: `button_data` is signed, 16 bits, 120 a notch."""
    if not flags & (_WHEEL | _TILT):
        return []
    data = _whole(event, "button_data", -0x8000, 0xFFFF)
    notches = ((data + 0x8000) % 0x10000 - 0x8000) / WHEEL_DELTA
    turns = [(_SCROLL, -1, 0.0, notches)] if flags & _WHEEL else []
    return turns + ([(_SCROLL, -1, notches, 0.0)] if flags & _TILT else [])


def _only_numbers(value: dict[str, Any]) -> None:
    rect = value.get("rect", [])
    if type(rect) is not list or not all(type(side) is int for side in rect):
        raise Rejected('"rect" is not a list of int')
    if type(value.get("hWnd", 0)) is not int:
        raise Rejected(f'"hWnd" is {shown(value["hWnd"])}, not an int')


_TOPICS: Mapping[str, Callable[[_Log, int, dict[str, Any], bytes], None]] = {
    "keyboard": _Log.keyboard,
    "keyboard/state": _Log.keyboard_state,
    "mouse": _Log.mouse,
    "mouse/state": _Log.mouse_state,
    "mouse/raw": _Log.mouse_raw,
    "window": _Log.window,
}
_PUBLIC = frozenset(_TOPICS) - {"window"}
"""Topics that hold no text; of others' rejected messages nothing is kept unless asked for."""


def _add(message: Message, log: _Log) -> None:
    """Add what `message` says, or raise Rejected."""
    take = _TOPICS.get(message.topic)
    if take is None:
        raise Rejected(f"the topic {message.topic[:80]!r} is none of {', '.join(_TOPICS)}")
    event = parse_object(message.data)
    take(log, _time_us(event, message.log_ns), event, message.data)


def _time_us(event: dict[str, Any], log_ns: int) -> int:
    stamp = event.get("timestamp")
    if stamp is not None and type(stamp) is not int:
        raise Rejected(f'"timestamp" is {shown(stamp)}, not an int')
    if stamp is None or stamp < 0 or not -MAX_STAMP_NS <= stamp - log_ns <= MAX_STAMP_NS:
        stamp = log_ns
    return stamp // 1000


def _missing(start_us: int, stop_us: int) -> list[Mask]:
    """Return the mask of a time whose messages are lost."""
    return [Mask(name="unknown", start_us=start_us, stop_us=stop_us)] if start_us < stop_us else []


@dataclass(frozen=True, kw_only=True, slots=True)
class OWAMcapReader:
    """The reader of OWAMcap: times in Unix microseconds; keys by their virtual-key codes."""

    name: str = "owamcap"
    """Name of the log format."""
    policies: tuple[str, ...] = ()
    """Any policy, the first of all by default."""
    default_window_us: int | None = None
    """The video holds changed pictures only: an event may lie far from the one on screen."""
    private: tuple[str, ...] = ()
    """There is no file of metadata."""

    def find(self, video: Path) -> LogFiles | None:
        """Return NAME.mcap beside NAME.mkv, if it names the profile of OWAMcap."""
        log = video.with_suffix(".mcap")
        return LogFiles(video=video, log=log) if profile(log) == PROFILE else None

    def clock(self, files: LogFiles) -> Clock:
        """Return "unix_us"."""
        return "unix_us"

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place the video by its subtitle clock, else by the stamps of its frames.

        Raises:
            ClockError: the stamps are those of another video.
            MissingStream: there is no log.
        """
        return clock_of(files, video)

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole. Numbers of rejected lines are those of messages.

        Moves are those of `mouse/raw` where there are any, else from position to position;
        positions, clicks and scrolls are those of `mouse`, where it has messages. A snapshot of
        held keys or buttons is an event "other", and adds an event "state" for all that differs
        from the events before it. Titles of windows are left out unless text is to be kept, as are
        rejected messages of `window` and of topics that are not read. What was held is unknown
        where the file is damaged, and after it breaks off.

        Raises:
            MissingStream: there is no such file.
            LogError: not one of its messages is an event, though there are some.
            UsageError: a package that reads such files is not installed.
        """
        log = _Log(
            table=EventTable(),
            snapshots=Snapshots(settle_us=SETTLE_US),
            path=files.log,
            keep_text=options.keep_text,
        )
        rejects = log.table.rejects
        masks: list[Mask] = []
        last_us = total = 0
        for message in messages(files.log, rejects):
            if rejects.total > total:  # something is missing before this message
                masks += _missing(last_us, message.log_ns // 1000)
            last_us, total = max(last_us, message.log_ns // 1000), rejects.total
            if message.topic == SCREEN:
                continue  # the clock's
            try:
                _add(message, log)
            except Rejected as error:
                shown_whole = options.keep_text or message.topic in _PUBLIC
                rejects.add(message.number, str(error), message.data if shown_whole else b"")
                total = rejects.total
        if rejects.total > total:
            masks += _missing(last_us, MAX_TIME_US)
        rejects.check_some_event(files.log, len(log.table), "messages of OWAMcap")
        log.snapshots.correct(log.table)
        return log.table.freeze(
            mouse_unit=log.mouse_unit,
            w3c_codes=W3C_BY_NUMBER,
            masks=masks,
        )
