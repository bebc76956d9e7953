"""Reads a team's own log, JSONL or CSV, by a mapping file that says what its fields mean.

NAME.mapping.json beside NAME.mp4, or one playmill-mapping.json for a folder; docs/readers.md
describes it. One line is one event: a field of CSV with a line end in it is rejected.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any

from playmill.errors import ClockError, LogError
from playmill.inputs.event_table import EventTable, what
from playmill.inputs.events import InputEvents
from playmill.inputs.exact_numbers import DECIMAL, amount, decimal_us, json_us
from playmill.inputs.generic_mapping import EventMapping, LogMapping, read_mapping
from playmill.inputs.lines import (
    DecimalText,
    Rejected,
    decoded,
    filled_lines,
    json_lines,
    json_object,
    parse_object,
    shown,
)
from playmill.inputs.reader import PLAIN, Anchor, Clock, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.windows_keys import W3C_BY_NUMBER

FOLDER_MAPPING, OWN_MAPPING = "playmill-mapping.json", ".mapping.json"
_SHORT_TIME = 40
"""Length up to which `decimal_us` takes the same texts as DECIMAL, which limits the places."""
_DISTINCT_AMOUNTS = 1 << 12
"""Fields of CSV that are remembered: the same few amounts come again and again."""
_Row = dict[str, Any]
_Part = tuple[int, int, float, float]
"""Device and kind, code or -1, x, y."""
_DOWN = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}


@dataclass(kw_only=True, slots=True)
class _Rows:
    """Turns lines into rows: names of fields and their values."""

    mapping: LogMapping
    columns: tuple[str, ...] | None

    def read(self, log: Path) -> Iterator[tuple[int, bytes, _Row | Rejected]]:
        """Yield the number of each line, the line, and its fields or why it has none."""
        if self.mapping.format == "jsonl":
            for line_number, line, value in json_lines(log, exact=True):
                try:
                    yield line_number, line, json_object(value)
                except Rejected as error:
                    yield line_number, line, error
            return
        for line_number, line in filled_lines(log):
            try:
                if self.columns is None:
                    self.columns = ()
                    self.columns = tuple(name.strip() for name in self._cells(line))
                else:
                    yield line_number, line, self._named(line)
            except Rejected as error:
                yield line_number, line, error

    def public(self, row: _Row, line: bytes) -> bytes:
        """Return `line` without the private fields."""
        hidden = [name for name in self.mapping.private if name in row]
        if not hidden:
            return line
        if self.mapping.format == "jsonl":
            event = parse_object(line)
            plain = {name: value for name, value in event.items() if name not in hidden}
            return json.dumps(plain).encode()
        text = io.StringIO()
        cells = ["" if name in hidden else row.get(name, "") for name in self.columns or ()]
        writer = csv.writer(text, delimiter=self.mapping.delimiter, lineterminator="")
        writer.writerow(cells)
        return text.getvalue().encode()

    def _cells(self, line: bytes) -> list[str]:
        try:
            # Of an empty cell at an end, a tab is all there is, and of the space bar a blank.
            text = decoded(line, blanks="\r")
            if '"' not in text and "\r" not in text:  # nearly always, and several times as fast
                return text.split(self.mapping.delimiter)
            return next(
                csv.reader([text.strip(" ")], delimiter=self.mapping.delimiter, strict=True)
            )
        except csv.Error as error:
            raise Rejected(f"not CSV: {error}") from None

    def _named(self, line: bytes) -> _Row:
        cells = self._cells(line)
        columns = self.columns or ()
        if len(cells) > len(columns):
            raise Rejected(f"has {len(cells)} fields, more than {len(columns)}")
        # Without empty fields, faster than by a comprehension.
        return dict(zip(compress(columns, cells), filter(None, cells), strict=True))


def _rows(mapping: LogMapping) -> _Rows:
    return _Rows(mapping=mapping, columns=mapping.columns)


def _decimal(cell: str, name: str) -> DecimalText:
    """Return the number that a field of CSV is, as JSON has it."""
    text = cell.strip()
    if not DECIMAL.fullmatch(text):
        raise Rejected(f'"{name}" is {text[:40]!r}, not a decimal number')
    return DecimalText(text)


@lru_cache(_DISTINCT_AMOUNTS)
def _cell_amount(cell: str, name: str) -> float:
    return amount(_decimal(cell, name), name)


def _time_us(row: _Row, mapping: LogMapping) -> int:
    """Return the time that `row` gives, in microseconds."""
    value = _field(row, mapping.time)
    if type(value) is DecimalText:
        return decimal_us(value, mapping.unit, mapping.time)
    if mapping.format == "csv":
        if len(value) <= _SHORT_TIME:  # looked at by `decimal_us` alone
            return decimal_us(value.strip(), mapping.unit, mapping.time)
        value = _decimal(value, mapping.time)
    return json_us(value, mapping.unit, mapping.time)


def _field(row: _Row, name: str) -> Any:
    value = row.get(name)
    if value is None:
        raise Rejected(f'"{name}" is missing')
    return value


def _word(row: _Row, name: str, mapping: LogMapping) -> str:
    """Return field `name`, a text or a whole number, as text.

    Blanks around a field of CSV are for the eye, but a blank alone is the name of the space bar.
    """
    value = _field(row, name)
    if type(value) is str:
        return value if mapping.format == "jsonl" or value == " " else value.strip()
    if type(value) is int:
        return str(value)
    raise Rejected(f'"{name}" is {shown(value)}, not a text or a whole number')


def _event_type(row: _Row, mapping: LogMapping) -> str:
    name = "" if mapping.type is None else _word(row, mapping.type, mapping)
    if name not in mapping.events:
        raise Rejected(f'"{mapping.type}" is {name[:40]!r}, which the mapping does not name')
    return name


def _taker(event: EventMapping, mapping: LogMapping, table: EventTable) -> Callable[[_Row], _Part]:
    """Return what reads an event but for its time, or raises Rejected."""
    kind = event.kind
    # A field of CSV is a text, whatever it means.
    amount_of = _cell_amount if mapping.format == "csv" else amount
    happened = what(event.device, "press" if kind == "switch" else kind)

    def moved(row: _Row) -> _Part:
        x = 0.0 if event.x is None else amount_of(_field(row, event.x), event.x)
        y = 0.0 if event.y is None else amount_of(_field(row, event.y), event.y)
        return happened, -1, x, y

    def switched(row: _Row) -> _Part:
        now, x = happened, 0.0
        if event.down is not None and not _is_down(row, event.down, mapping):
            now = what(event.device, "release")
        if event.value is not None:
            x = amount_of(_field(row, event.value), event.value)
        if event.name is None:
            return now, table.code(event.device, event.name_is or "", field_name="name_is"), x, 0
        name = _word(row, event.name, mapping)
        return now, table.code(event.device, name, field_name=event.name), x, 0

    if kind in ("move", "position", "scroll"):
        return moved
    return switched if event.name or event.name_is else lambda row: (happened, -1, 0, 0)


def _is_down(row: _Row, name: str, mapping: LogMapping) -> bool:
    value = _field(row, name)
    plain = value.strip().lower() if mapping.format == "csv" else value
    if type(plain) not in (bool, int, str) or plain not in _DOWN:
        raise Rejected(f'"{name}" is {shown(value)}, not true, false, 1 or 0')
    return _DOWN[plain]


def _mapping_file(video: Path) -> Path | None:
    """Return the mapping file beside `video`: its own, or its folder's."""
    for path in (video.with_name(video.stem + OWN_MAPPING), video.with_name(FOLDER_MAPPING)):
        if path.is_file():
            return path
    return None


def _starts(mapping: LogMapping) -> list[int]:
    """Return the times of the lines at which the video begins."""
    found = []
    for _, _, row in _rows(mapping).read(mapping.log):
        if isinstance(row, Rejected):
            continue
        try:
            if _event_type(row, mapping) == mapping.video_start:
                found.append(_time_us(row, mapping))
        except Rejected:
            continue
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class GenericReader:
    """The reader of logs that have a mapping file."""

    name: str = "generic"
    """Name of the log format."""
    policies: tuple[str, ...] = ()
    """Any policy, the first of all by default."""
    default_window_us: int | None = 100_000
    """Largest distance of an event from its frame, where the user names none."""
    private: tuple[str, ...] = ()
    """There is no file of metadata."""

    def find(self, video: Path) -> LogFiles | None:
        """Return the log that the mapping file beside `video` names; None without such a file.

        Raises:
            LogError: the mapping file is broken, or there is no such log.
        """
        path = _mapping_file(video)
        if path is None:
            return None
        return LogFiles(video=video, log=read_mapping(path, video).log, sides=(path,))

    def clock(self, files: LogFiles) -> Clock:
        """Return what the mapping says.

        Raises:
            LogError: the mapping file is broken.
        """
        return _clock(_mapping_of(files))

    def anchor(self, files: LogFiles, video: VideoTimes) -> Anchor | None:
        """Place pts 0 as the mapping says; None: it does not.

        Raises:
            ClockError: no line is of the type at whose time the video begins.
            LogError: the mapping file is broken.
        """
        mapping = _mapping_of(files)
        if mapping.clock == "video":
            return Anchor(pts_zero_us=0, clock=_clock(mapping))
        if mapping.video_start is None:
            return None
        starts = _starts(mapping)
        if not starts:
            raise ClockError(
                str(files.log),
                "",
                f"no line of type {mapping.video_start!r} with a time",
                f"the line at which the video begins ({mapping.file.name}: video_start)",
                "Check the type's name, or give --pts-zero-us without video_start.",
            )
        warnings: tuple[str, ...] = ()
        if len(starts) > 1:
            warnings = (f"the log says {len(starts)} times that the video began: the first",)
        return Anchor(
            pts_zero_us=starts[0],
            clock=_clock(mapping),
            warnings=warnings,
        )

    def read(self, files: LogFiles, options: ReadOptions = PLAIN) -> InputEvents:
        """Read the log whole. Private fields are left out unless text is to be kept; of a rejected
        line nothing is kept then, if the mapping names any.

        Raises:
            LogError: the mapping file is broken, or not one line is an event.
        """
        mapping = _mapping_of(files)
        table, rows = EventTable(), _rows(mapping)
        hiding = bool(mapping.private) and not options.keep_text
        takers = {
            name: None if event is None else _taker(event, mapping, table)
            for name, event in mapping.events.items()
        }
        for line_number, line, row in rows.read(mapping.log):
            try:
                if isinstance(row, Rejected):
                    raise row
                take = takers[_event_type(row, mapping)]
                if take is not None:
                    raw = rows.public(row, line) if hiding else line
                    time_us = _time_us(row, mapping)
                    happened, code, x, y = take(row)
                    table.add(time_us, happened, code=code, x=x, y=y, raw=raw)
            except Rejected as error:
                reason = "has a wrong value" if hiding else str(error)  # which may quote it
                table.rejects.add(line_number, reason, b"" if hiding else line)
        table.rejects.check_some_event(
            mapping.log, len(table), f"lines as {mapping.file.name} describes them"
        )
        table.check_order()
        names = W3C_BY_NUMBER if mapping.windows_keys else None
        return table.freeze(mouse_unit=mapping.mouse_unit, w3c_codes=names)


def _clock(mapping: LogMapping) -> Clock:
    return "unix_us" if mapping.clock == "unix" else "log_us"


def _mapping_of(files: LogFiles) -> LogMapping:
    path = files.sides[0] if files.sides else _mapping_file(files.video)
    if path is None:
        raise LogError(
            str(files.log),
            "",
            "no mapping file",
            f"{files.video.stem}{OWN_MAPPING} or {FOLDER_MAPPING} beside the video",
            "Write one: it says what the fields of the log mean.",
        )
    return read_mapping(path, files.video)
