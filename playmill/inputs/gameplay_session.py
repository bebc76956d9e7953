"""Reads the inputs.jsonl of a `gameplay-session/1` recording. Knows nothing of its video.

One JSON object a line. A line is an event, a copy of an earlier one, blank, or rejected: nothing
else can happen to it, and copies and rejected lines are counted.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from playmill.errors import LogError, MissingStream
from playmill.inputs.events import DEVICES, KINDS, InputEvents, RejectedLines, pack_lines

MAX_LINE_BYTES = 1 << 20
"""A longer line is rejected unparsed, so that memory does not depend on where line ends are."""
MAX_REJECTED_LINES = 100_000
"""Rejected lines that are kept; all are counted."""
MAX_REJECTED_BYTES = 4096
"""Bytes that are kept of a rejected line."""
MAX_NAMES = 512
"""Distinct keys and buttons of one log; each is a column of every dataset array of actions."""
MAX_NAME_BYTES = 100
"""Length of a key's or button's name in UTF-8."""
MAX_COUNTS = 1 << 24
"""Largest |dx|, |dy|, |delta|: up to here every whole number is exact in float32."""

_KEYBOARD, _MOUSE = DEVICES.index("keyboard"), DEVICES.index("mouse")
_MOVE = _MOUSE * len(KINDS) + KINDS.index("move")
_SCROLL = _MOUSE * len(KINDS) + KINDS.index("scroll")
_SWITCHES = {
    "key_down": ("key", _KEYBOARD, _KEYBOARD * len(KINDS) + KINDS.index("press")),
    "key_up": ("key", _KEYBOARD, _KEYBOARD * len(KINDS) + KINDS.index("release")),
    "mouse_down": ("button", _MOUSE, _MOUSE * len(KINDS) + KINDS.index("press")),
    "mouse_up": ("button", _MOUSE, _MOUSE * len(KINDS) + KINDS.index("release")),
}
"""type -> field of the name, device, device and kind in one number"""
_MAX_TIME_US = (1 << 63) - 1
_BATCH = 1 << 16
"""Events that are Python objects at any one time."""
_BOM = b"\xef\xbb\xbf"

_Row = tuple[int, int, int, int, int]
"""time_us; device and kind; code in the order in which names were met, or -1; x, y."""


class _Rejected(Exception):
    """A line is no event; the one argument is the reason."""


def _no_constant(name: str) -> NoReturn:
    raise _Rejected(f"not JSON: {name}")


_DECODE = json.JSONDecoder(parse_constant=_no_constant).raw_decode


def _shown(value: object) -> str:
    return type(value).__name__ if isinstance(value, (list, dict, str)) else repr(value)[:40]


def _whole(event: dict[str, Any], name: str) -> int:
    """Return field `name`, a whole number that float32 holds exactly."""
    value = event.get(name)
    if type(value) is not int:
        found = f"is {_shown(value)}" if name in event else "is missing"
        raise _Rejected(f'"{name}" {found}, not an int')
    if not -MAX_COUNTS <= value <= MAX_COUNTS:
        raise _Rejected(f'"{name}" is beyond +-{MAX_COUNTS}')
    return value


def _parse(line: bytes) -> dict[str, Any]:
    """Return the JSON object on `line`, or raise _Rejected."""
    if len(line) > MAX_LINE_BYTES:
        raise _Rejected(f"is longer than {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode().strip(" \t\r")
        event, end = _DECODE(text)
    except UnicodeDecodeError as error:
        raise _Rejected(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _Rejected(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _Rejected("not JSON: nested too deep") from None
    except ValueError:
        raise _Rejected("not JSON: a number has too many digits") from None
    if end != len(text):
        raise _Rejected(f"not JSON: extra data at character {end}")
    if type(event) is not dict:
        raise _Rejected(f"is JSON {type(event).__name__}, not an object")
    return event


def _event(line: bytes, names: dict[tuple[int, str], int]) -> _Row:
    """Return the event on `line`, or raise _Rejected.

    Args:
        names: (device, name) -> code in the order in which names were met; a new one is added.
    """
    event = _parse(line)
    time_us = event.get("t")
    if type(time_us) is not int:
        found = f"is {_shown(time_us)}" if "t" in event else "is missing"
        raise _Rejected(f'"t" {found}, not an int')
    if not 0 <= time_us <= _MAX_TIME_US:
        raise _Rejected('"t" is negative' if time_us < 0 else '"t" is 2**63 or more')
    kind = event.get("type")
    if kind == "mouse_move":
        return time_us, _MOVE, -1, _whole(event, "dx"), _whole(event, "dy")
    if kind == "mouse_wheel":
        return time_us, _SCROLL, -1, 0, _whole(event, "delta")
    if type(kind) is not str or kind not in _SWITCHES:
        raise _Rejected('"type" is unknown' if "type" in event else '"type" is missing')
    what, device, packed = _SWITCHES[kind]
    return time_us, packed, _code(event, what, device, names), 0, 0


def _code(event: dict[str, Any], what: str, device: int, names: dict[tuple[int, str], int]) -> int:
    name = event.get(what)
    if type(name) is not str:
        found = f"is {_shown(name)}" if what in event else "is missing"
        raise _Rejected(f'"{what}" {found}, not a name')
    code = names.get((device, name))
    if code is None:
        _check_name(name, what)
        if len(names) == MAX_NAMES:
            raise _Rejected(f'"{what}" is one name more than {MAX_NAMES}')
        code = names[device, name] = len(names)
    return code


def _check_name(name: str, what: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise _Rejected(f'"{what}" is not valid UTF-8') from None
    if not 0 < size <= MAX_NAME_BYTES:
        raise _Rejected(f'"{what}" has {size} bytes, not 1 to {MAX_NAME_BYTES}')
    if "\0" in name:  # an HDF5 string cannot hold one
        raise _Rejected(f'"{what}" holds a NUL character')


@dataclass(kw_only=True, slots=True)
class _Columns:
    """Events in the order of the log, one column a field."""

    time_us: array[int] = field(default_factory=lambda: array("q"))
    what: array[int] = field(default_factory=lambda: array("B"))
    """device * len(KINDS) + kind"""
    code: array[int] = field(default_factory=lambda: array("i"))
    x: array[float] = field(default_factory=lambda: array("f"))
    y: array[float] = field(default_factory=lambda: array("f"))
    raw: bytearray = field(default_factory=bytearray)
    raw_size: array[int] = field(default_factory=lambda: array("q"))

    def extend(self, rows: list[_Row], lines: list[bytes]) -> None:
        """Append events with their lines."""
        columns: tuple[array[Any], ...] = (self.time_us, self.what, self.code, self.x, self.y)
        for column, values in zip(columns, zip(*rows, strict=True), strict=False):
            column.extend(values)
        self.raw += b"".join(lines)
        self.raw_size.extend(map(len, lines))


@dataclass(kw_only=True, slots=True)
class _Rejects:
    """Rejected lines, as many as are kept."""

    line: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    total: int = 0

    def add(self, line_number: int, reason: str, line: bytes) -> None:
        self.total += 1
        if self.total <= MAX_REJECTED_LINES:
            self.line.append(line_number)
            self.reason.append(reason)
            self.raw.append(line[:MAX_REJECTED_BYTES])

    def freeze(self) -> RejectedLines:
        raw, raw_offsets = pack_lines(self.raw)
        return RejectedLines(
            line=np.array(self.line, np.int64),
            reason=tuple(self.reason),
            raw=raw,
            raw_offsets=raw_offsets,
            total=self.total,
        )


def _lines(log: Path) -> Iterator[bytes]:
    """Yield each line without its end; of one that is too long, its beginning (still too long)."""
    with log.open("rb") as file:
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        limit = MAX_LINE_BYTES + 2  # two for the line end
        while line := file.readline(limit):
            if len(line) < limit or line.endswith(b"\n"):
                yield line.rstrip(b"\r\n")
                continue
            yield line
            while len(line) == limit and not line.endswith(b"\n"):
                line = file.readline(limit)


def _scan(log: Path) -> tuple[_Columns, dict[tuple[int, str], int], _Rejects]:
    columns, rejects = _Columns(), _Rejects()
    names: dict[tuple[int, str], int] = {}
    rows: list[_Row] = []
    lines: list[bytes] = []
    for line_number, line in enumerate(_lines(log), start=1):
        try:
            rows.append(_event(line, names))
        except _Rejected as error:
            if line and not line.isspace():  # a blank line says nothing that could be lost
                rejects.add(line_number, str(error), line)
            continue
        lines.append(line)
        if len(rows) == _BATCH:
            columns.extend(rows, lines)
            rows, lines = [], []
    columns.extend(rows, lines)
    return columns, names, rejects


def _first_copies(
    time_us: NDArray[np.int64], raw: bytearray, starts: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return `order` without copies of earlier lines; a copy stands among events of its time."""
    twin = np.zeros(len(order), bool)
    twin[1:] = time_us[order[1:]] == time_us[order[:-1]]
    keep = np.ones(len(order), bool)
    seen: set[bytes] = set()
    for place in np.flatnonzero(twin).tolist():
        if not twin[place - 1]:
            seen = {_line(raw, starts, order[place - 1])}
        line = _line(raw, starts, order[place])
        keep[place] = line not in seen
        seen.add(line)
    return order[keep]


def _line(raw: bytearray, starts: NDArray[np.int64], index: int) -> bytes:
    return bytes(raw[starts[index] : starts[index + 1]])


def _gather(
    raw: bytearray, starts: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the lines in `order`, packed; a part at a time, for the slices take memory."""
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(starts[order + 1] - starts[order], out=offsets[1:])
    packed = bytearray()
    for first in range(0, len(order), _BATCH):
        part = order[first : first + _BATCH]
        bounds = zip(starts[part].tolist(), starts[part + 1].tolist(), strict=True)
        packed += b"".join([raw[start:stop] for start, stop in bounds])
    return np.frombuffer(packed, np.uint8), offsets


def _freeze(columns: _Columns, names: dict[tuple[int, str], int], rejects: _Rejects) -> InputEvents:
    time_us = np.frombuffer(columns.time_us, np.int64)
    starts = np.zeros(len(time_us) + 1, np.int64)
    np.cumsum(np.frombuffer(columns.raw_size, np.int64), out=starts[1:])
    order = _first_copies(time_us, columns.raw, starts, np.argsort(time_us, kind="stable"))
    by_name = sorted(names, key=lambda key: (key[1], key[0]))
    rank = np.full(len(names) + 1, -1, np.int32)  # the last one is that of code -1
    rank[[names[key] for key in by_name]] = np.arange(len(names), dtype=np.int32)
    device, kind = np.divmod(np.frombuffer(columns.what, np.uint8)[order], np.uint8(len(KINDS)))
    x, y = np.frombuffer(columns.x, np.float32), np.frombuffer(columns.y, np.float32)
    raw, raw_offsets = _gather(columns.raw, starts, order)
    return InputEvents(
        timestamp_us=time_us[order],
        device=device,
        kind=kind,
        code=rank[np.frombuffer(columns.code, np.int32)[order]],
        codes=tuple(name for _, name in by_name),
        code_device=np.array([device for device, _ in by_name], np.uint8),
        value=np.column_stack([x[order], y[order]]),
        raw=raw,
        raw_offsets=raw_offsets,
        duplicates=len(time_us) - len(order),
        rejected=rejects.freeze(),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class GameplaySessionReader:
    """The reader of `gameplay-session/1`: times in Unix microseconds, mouse moves in counts."""

    name: str = "gameplay-session/1"
    """Name of the log format."""
    default_window_us: int | None = 100_000
    """Largest distance of an event from its frame, where the user names none."""

    def read(self, log: Path) -> InputEvents:
        """Read `log` whole: lines sorted by time (stable), copies left out, bad lines kept apart.

        Of byte-identical lines (line ends aside) the first is kept. Key auto-repeat stays. Fields
        that the format does not name are ignored, blank lines and a byte order mark too.

        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines is an event.
        """
        if not log.is_file():
            raise MissingStream(
                str(log),
                "",
                "no regular file" if log.exists() else "no such file",
                "the recording's input log",
                "Restore the log, or name the right file in session.json.",
            )
        columns, names, rejects = _scan(log)
        if rejects.total and not columns.time_us:
            raise LogError(
                str(log),
                f"line {rejects.line[0]}",
                f"a line that {_clause(rejects.reason[0])}, and no event in the whole log",
                "one JSON object a line, as gameplay-session/1 describes",
                "Check that this is the session's input log.",
            )
        return _freeze(columns, names, rejects)


def _clause(reason: str) -> str:
    return reason if reason.startswith("is ") else f"is no event ({reason})"
