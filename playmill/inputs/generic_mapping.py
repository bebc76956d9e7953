"""The mapping file that says what the fields of somebody's own log mean. Reads no log.

docs/readers.md describes the file. Every mistake in it is named with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from playmill.errors import LogError
from playmill.inputs.events import DEVICES
from playmill.inputs.exact_numbers import UNITS
from playmill.inputs.lines import Rejected, parse_object

SCHEMA = "playmill-mapping/1"
MAX_MAPPING_BYTES = 1 << 18
FORMATS = ("jsonl", "csv")
CLOCKS = ("unix", "video", "log")
"""Time counts from 1970, from pts 0 of the video, or from something that the log alone knows."""
KINDS = ("press", "release", "switch", "move", "position", "scroll", "axis", "other")
"""What a line can be; a "switch" is a press or a release, as its field `down` says."""
KEY_NAMES = ("plain", "windows_vk")

_PLACES = {
    "": ("schema", "log", "format", "delimiter", "columns", "time", "type", "events",
         "video_start", "keys", "mouse_unit", "private"),
    "time": ("field", "unit", "clock"),
    "event": ("device", "kind", "name", "name_is", "x", "y", "value", "down"),
}  # fmt: skip
_NAMED = ("press", "release", "switch", "axis")
_NEEDS = {"switch": ("down",), "axis": ("value",), "position": ("x", "y")}
_TAKES = {"move": ("x", "y"), "position": ("x", "y"), "scroll": ("x", "y"), "axis": ("value",),
          "switch": ("down",)}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class EventMapping:
    """What the lines of one type are."""

    device: str
    """One of DEVICES."""
    kind: str
    """One of KINDS."""
    name: str | None = None
    """Field with the name of the key, button or axis."""
    name_is: str | None = None
    """That name itself, where no field has it."""
    x: str | None = None
    y: str | None = None
    """Fields of moves, positions and scrolls; None: 0."""
    value: str | None = None
    """Field of an axis' value."""
    down: str | None = None
    """Field that is true, or 1, for a press, and false, or 0, for a release."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogMapping:
    """What the fields of a log mean."""

    file: Path
    """The mapping file."""
    log: Path
    format: str
    """One of FORMATS."""
    delimiter: str
    """Between the fields of CSV."""
    columns: tuple[str, ...] | None
    """Names of the fields of CSV; None: they are its first line."""
    time: str
    """Field of the time."""
    unit: str
    """One of UNITS."""
    clock: str
    """One of CLOCKS."""
    type: str | None
    """Field of a line's type; None: all lines are of type ""."""
    events: Mapping[str, EventMapping | None]
    """By type; None: such lines are passed over."""
    video_start: str | None
    """Type of the line at whose time pts 0 is."""
    windows_keys: bool
    """Names of keys are Windows virtual-key codes."""
    mouse_unit: str
    """Unit of moves."""
    private: tuple[str, ...]
    """Fields with text that is dropped unless asked for."""


class _Mapping:
    """The file while it is read: every wrong value becomes a LogError with its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                data = file.read(MAX_MAPPING_BYTES + 1)
            if len(data) > MAX_MAPPING_BYTES:
                raise Rejected(f"is longer than {MAX_MAPPING_BYTES} bytes")
            text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\n", b" ")
            self.value = parse_object(text)
        except (OSError, Rejected) as error:
            self.fail("", str(error), "one JSON object in UTF-8")

    def fail(self, place: str, found: str, expected: str) -> NoReturn:
        raise LogError(str(self.path), place, found, expected, "Mend the mapping file.")

    def check_names(self, value: dict[str, Any], place: str, allowed: tuple[str, ...]) -> None:
        for name in value:
            if name not in allowed:
                where = f"{place}.{name[:80]}" if place else name[:80]
                self.fail(where, "a name that means nothing here", ", ".join(allowed))

    def text(self, holder: dict[str, Any], place: str, expected: str) -> str:
        """Return the text at `place`, whose last part is its name in `holder`."""
        value = holder.get(place.rpartition(".")[2])
        if type(value) is not str or not value:
            self.fail(place, "nothing" if value is None else repr(value)[:80], expected)
        return value

    def one_of(
        self, holder: dict[str, Any], place: str, choice: tuple[str, ...], default: str | None
    ) -> str:
        value = holder.get(place.rpartition(".")[2], default)
        if value not in choice:
            found = "nothing" if value is None else repr(value)[:80]
            self.fail(place, found, f"one of {', '.join(choice)}")
        return str(value)

    def texts(self, place: str) -> tuple[str, ...] | None:
        value = self.value.get(place)
        if value is None:
            return None
        if type(value) is not list or not all(type(item) is str for item in value):
            self.fail(place, repr(value)[:80], "a list of names of fields")
        return tuple(value)

    def object(self, holder: dict[str, Any], place: str) -> dict[str, Any]:
        value = holder.get(place.rpartition(".")[2])
        if type(value) is not dict:
            self.fail(place, "nothing" if value is None else repr(value)[:80], "an object")
        return value


def read_mapping(path: Path, video: Path) -> LogMapping:
    """Read the mapping file `path` for the log of `video`.

    Raises:
        LogError: it is broken, or the log that it names is not there.
    """
    mapping = _Mapping(path)
    mapping.check_names(mapping.value, "", _PLACES[""])
    if mapping.value.get("schema") != SCHEMA:
        mapping.fail("schema", repr(mapping.value.get("schema"))[:80], repr(SCHEMA))
    log = _log(mapping, video)
    time = mapping.object(mapping.value, "time")
    mapping.check_names(time, "time", _PLACES["time"])
    has_type = mapping.value.get("type") is not None
    events = _events(mapping, has_type)
    clock = mapping.one_of(time, "time.clock", CLOCKS, None)
    return LogMapping(
        file=path,
        log=log,
        format=mapping.one_of(
            mapping.value, "format", FORMATS, "csv" if log.suffix.lower() == ".csv" else "jsonl"
        ),
        delimiter=_delimiter(mapping),
        columns=mapping.texts("columns"),
        time=mapping.text(time, "time.field", "the name of the field of the time"),
        unit=mapping.one_of(time, "time.unit", tuple(UNITS), None),
        clock=clock,
        type=mapping.text(mapping.value, "type", "the name of a field") if has_type else None,
        events=events,
        video_start=_video_start(mapping, clock, events),
        windows_keys=mapping.one_of(mapping.value, "keys", KEY_NAMES, "plain") == "windows_vk",
        mouse_unit=mapping.text({"mouse_unit": "counts"} | mapping.value, "mouse_unit", "a unit"),
        private=mapping.texts("private") or (),
    )


def _log(mapping: _Mapping, video: Path) -> Path:
    given = mapping.text(mapping.value, "log", 'the name of the log, such as "{stem}.csv"')
    name = given.replace("{stem}", video.stem)
    log = video.parent / name
    if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        mapping.fail("log", repr(name)[:200], "the name of a file in the folder of the video")
    if not log.is_file():
        mapping.fail("log", f"no file {name}"[:200], f"the input log of {video.name}")
    return log


def _delimiter(mapping: _Mapping) -> str:
    value = mapping.value.get("delimiter", ",")
    if type(value) is not str or len(value) != 1 or not value.isascii() or value in '"\r\n\0':
        mapping.fail("delimiter", repr(value)[:80], "one ASCII sign between fields")
    return value


def _video_start(
    mapping: _Mapping, clock: str, events: Mapping[str, EventMapping | None]
) -> str | None:
    if mapping.value.get("video_start") is None:
        if clock == "log":
            mapping.fail(
                "video_start", "nothing", "the type of the line at whose time the video begins"
            )
        return None
    start = mapping.text(mapping.value, "video_start", "a type of lines")
    if clock == "video":
        mapping.fail("video_start", repr(start)[:80], "nothing: time counts from pts 0 already")
    if start not in events:
        mapping.fail("video_start", repr(start)[:80], "a type that is named in events")
    return start


def _events(mapping: _Mapping, has_type: bool) -> dict[str, EventMapping | None]:
    given = mapping.object(mapping.value, "events")
    if not given or (not has_type and set(given) != {""}):
        expected = "types of lines" if has_type else 'the one type "", for want of a field `type`'
        mapping.fail("events", ", ".join(map(repr, given))[:80] or "nothing", expected)
    return {
        name: None if event is None else _event(mapping, given, f"events.{name}", name)
        for name, event in given.items()
    }


def _event(mapping: _Mapping, given: dict[str, Any], place: str, name: str) -> EventMapping:
    event = given[name]
    if type(event) is not dict:
        mapping.fail(place, repr(event)[:80], "an object, or null")
    mapping.check_names(event, place, _PLACES["event"])
    kind = mapping.one_of(event, f"{place}.kind", KINDS, None)
    device = mapping.one_of(event, f"{place}.device", DEVICES, "other" if kind == "other" else None)
    fields = {
        field: mapping.text(event, f"{place}.{field}", "the name of a field")
        for field in _PLACES["event"][2:]
        if event.get(field) is not None
    }
    takes = (*_TAKES.get(kind, ()), *(("name", "name_is") if kind in _NAMED else ()))
    for field in fields:
        if field not in takes:
            mapping.fail(f"{place}.{field}", "a field", f"none: {kind!r} has no {field}")
    for field in _NEEDS.get(kind, ()):
        if field not in fields:
            mapping.fail(f"{place}.{field}", "nothing", "the name of a field")
    if kind in _NAMED and ("name" in fields) == ("name_is" in fields):
        mapping.fail(f"{place}.name", "not one of name, name_is", "a field, or the name itself")
    return EventMapping(device=device, kind=kind, **fields)
