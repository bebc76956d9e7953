"""Lines of a text log, and what becomes of those that are no events. Knows no log format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from playmill.errors import LogError, MissingStream
from playmill.inputs.events import RejectedLines, pack_lines

MAX_LINE_BYTES = 1 << 20
"""A longer line is rejected unparsed, so that memory does not depend on where line ends are."""
MAX_REJECTED_LINES = 100_000
"""Rejected lines that are kept; all are counted."""
MAX_REJECTED_BYTES = 4096
"""Bytes that are kept of a rejected line."""
_OPENING_BYTES = 1 << 16
_OPENING_LINES = 8
_BOM = b"\xef\xbb\xbf"
_BLANKS = " \t\r"
_BLOCK_BYTES = 1 << 18
_TOGETHER = 64
"""Lines that are parsed at once. If one is broken all of them are parsed once more, one by one."""


class Rejected(Exception):
    """A line is no event; the one argument is the reason."""


def _no_constant(name: str) -> NoReturn:
    raise Rejected(f"not JSON: {name}")


class DecimalText(str):
    """A JSON number with a point or an exponent, as it is written."""

    __slots__ = ()


_DECODE = json.JSONDecoder(parse_constant=_no_constant).raw_decode
_DECODE_EXACT = json.JSONDecoder(parse_constant=_no_constant, parse_float=DecimalText).raw_decode

_MARK = object()
"""The value of NaN, which stands between lines that are parsed at once, and in none of them."""
_constant = {"NaN": _MARK}.__getitem__
_DECODE_MANY = json.JSONDecoder(parse_constant=_constant).raw_decode
_DECODE_MANY_EXACT = json.JSONDecoder(parse_constant=_constant, parse_float=DecimalText).raw_decode


def shown(value: object) -> str:
    """Name a wrong value in a reason, without its content where that may be long."""
    if isinstance(value, DecimalText):
        return value[:40]
    return type(value).__name__ if isinstance(value, (list, dict, str)) else repr(value)[:40]


def decoded(line: bytes, *, blanks: str = _BLANKS) -> str:
    """Return the text of `line` without `blanks` around it; Rejected: too long, or not UTF-8."""
    if len(line) > MAX_LINE_BYTES:
        raise Rejected(f"is longer than {MAX_LINE_BYTES} bytes")
    try:
        return line.decode().strip(blanks)
    except UnicodeDecodeError as error:
        raise Rejected(f"not UTF-8 at byte {error.start}") from None


def parse_json(text: str, *, exact: bool = False) -> Any:
    """Return the one JSON value that `text` is; Rejected: it is none.

    Args:
        exact: give numbers with a point or an exponent as `DecimalText`, not as float.
    """
    try:
        value, end = _DECODE_EXACT(text) if exact else _DECODE(text)
    except json.JSONDecodeError as error:
        raise Rejected(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Rejected("not JSON: nested too deep") from None
    except ValueError:
        raise Rejected("not JSON: a number has too many digits") from None
    if end != len(text):
        raise Rejected(f"not JSON: extra data at character {end}")
    return value


def parse_object(line: bytes, *, exact: bool = False) -> dict[str, Any]:
    """Return the JSON object on `line`, as `parse_json` does; Rejected: there is none."""
    if len(line) <= MAX_LINE_BYTES:  # nearly every line is sound, and there are millions
        try:
            text = line.decode().strip(_BLANKS)
            value, end = _DECODE_EXACT(text) if exact else _DECODE(text)
            if end == len(text) and type(value) is dict:
                return value
        except (ValueError, RecursionError):
            pass
    # What is wrong with the others is looked for.
    return json_object(parse_json(decoded(line), exact=exact))


def parse_together(lines: Sequence[bytes], *, exact: bool = False) -> list[Any] | None:
    """Return the JSON value of each line, as `parse_json` does, in half the time.

    None: one of them is no JSON, or too unusual to be sure; they have to be parsed one by one.
    """
    if max(map(len, lines)) > MAX_LINE_BYTES:
        return None
    joined = b"[%b]" % b"\n,NaN,\n".join(lines)
    if joined.count(b"NaN") != len(lines) - 1:
        return None
    try:
        text = joined.decode()
        values, end = (_DECODE_MANY_EXACT if exact else _DECODE_MANY)(text)
    except (ValueError, KeyError, RecursionError):
        return None
    # All marks are those between lines. If each is a value of the outermost list, and every second
    # one there, then what stands between two of them, one line, is one value.
    marks = values[1::2]
    if end != len(text) or len(values) != 2 * len(lines) - 1 or marks.count(_MARK) != len(marks):
        return None
    return values[::2]  # type: ignore[no-any-return]


def log_lines(log: Path) -> Iterator[bytes]:
    """Yield each line without its end; of one that is too long, its beginning (still too long).

    A byte order mark is left out. Memory is bounded by `MAX_LINE_BYTES`.

    Raises:
        MissingStream: there is no such file.
    """
    return chain.from_iterable(_blocks(log))


def _blocks(log: Path) -> Iterator[list[bytes]]:
    """Yield the lines of `log_lines`, many at a time."""
    check_log_file(log)
    with log.open("rb") as file:
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        rest, is_long = b"", False
        while block := file.read(_BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            if lines and is_long:  # the end of one whose beginning was there before
                del lines[0]
                is_long = False
            yield [
                line.rstrip(b"\r") if len(line) <= MAX_LINE_BYTES + 1 else line for line in lines
            ]
            if is_long or len(rest) > MAX_LINE_BYTES + 1:
                if not is_long:
                    yield [rest]
                rest, is_long = b"", True
        if rest:
            yield [rest.rstrip(b"\r")]


def _filled_blocks(log: Path) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the lines of `filled_lines`, many at a time."""
    first = 1
    for lines in _blocks(log):
        yield [
            numbered
            for numbered in enumerate(lines, first)
            if numbered[1] and not numbered[1].isspace()
        ]
        first += len(lines)


def filled_lines(log: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number (from 1) and content of each line that is not blank, as `log_lines` does.

    A blank line says nothing that could be lost.
    """
    return chain.from_iterable(_filled_blocks(log))


class JsonLines(NamedTuple):
    """Lines that follow one another but for blank ones."""

    numbers: Sequence[int]
    """Of each, from 1."""
    lines: Sequence[bytes]
    values: Sequence[Any]
    """What each is in JSON; of one that is none, the `Rejected` that says why."""


def json_batches(log: Path, *, exact: bool = False) -> Iterator[JsonLines]:
    """Yield all of `filled_lines` with what they are in JSON.

    Args:
        exact: give numbers with a point or an exponent as `DecimalText`, not as float.
    """
    for block in _filled_blocks(log):
        for start in range(0, len(block), _TOGETHER):
            numbers, lines = zip(*block[start : start + _TOGETHER], strict=True)
            values = parse_together(lines, exact=exact)
            if values is None:
                values = [_value_of(line, exact) for line in lines]
            yield JsonLines(numbers, lines, values)


def json_lines(log: Path, *, exact: bool = False) -> Iterator[tuple[int, bytes, Any]]:
    """Yield number, line and value of each line of `json_batches`."""
    for batch in json_batches(log, exact=exact):
        yield from zip(*batch, strict=True)


def _value_of(line: bytes, exact: bool) -> Any:
    try:
        return parse_json(decoded(line), exact=exact)
    except Rejected as error:
        return error


def json_object(value: Any) -> dict[str, Any]:
    """Return a value of `json_lines` that is an object; raise Rejected."""
    if type(value) is dict:
        return value
    if isinstance(value, Rejected):
        raise value
    raise Rejected(f"is JSON {type(value).__name__}, not an object")


def opening_objects(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects among the first lines of a file, for a reader that looks for its own.

    Reads 64 KiB. Whatever is no object, or cannot be read, is passed over.
    """
    try:
        with log.open("rb") as file:
            opening = file.read(_OPENING_BYTES)
            whole = not file.read(1)
    except OSError:
        return
    lines = opening.removeprefix(_BOM).split(b"\n", _OPENING_LINES)
    for line in lines[:_OPENING_LINES] if whole else lines[: min(len(lines) - 1, _OPENING_LINES)]:
        try:
            yield parse_object(line)
        except Rejected:
            continue


def is_blank(log: Path) -> bool:
    """Return whether a file is there with nothing in it but a few blanks."""
    try:
        with log.open("rb") as file:
            return not file.read(_OPENING_BYTES).removeprefix(_BOM).strip() and not file.read(1)
    except OSError:
        return False


def check_log_file(log: Path) -> None:
    """Raise MissingStream unless `log` is a file."""
    if not log.is_file():
        raise MissingStream(
            str(log),
            "",
            "no regular file" if log.exists() else "no such file",
            "the recording's input log",
            "Restore the log, or name the right file in session.json.",
        )


@dataclass(kw_only=True, slots=True)
class Rejects:
    """Rejected lines, as many as are kept."""

    line: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    total: int = 0

    def add(self, line_number: int, reason: str, line: bytes) -> None:
        """Count a line (from 1) and keep it if there is room."""
        self.total += 1
        if self.total <= MAX_REJECTED_LINES:
            self.line.append(line_number)
            self.reason.append(reason)
            self.raw.append(line[:MAX_REJECTED_BYTES])

    def freeze(self) -> RejectedLines:
        """Return them as arrays."""
        raw, raw_offsets = pack_lines(self.raw)
        return RejectedLines(
            line=np.array(self.line, np.int64),
            reason=tuple(self.reason),
            raw=raw,
            raw_offsets=raw_offsets,
            total=self.total,
        )

    def check_some_event(self, log: Path, num_events: int, expected: str) -> None:
        """Raise LogError where lines were rejected and not one was an event."""
        if self.total and not num_events:
            raise LogError(
                str(log),
                f"line {self.line[0]}",
                f"a line that {_clause(self.reason[0])}, and no event in the whole log",
                expected,
                "Check that this is the session's input log.",
            )


def _clause(reason: str) -> str:
    return reason if reason.startswith("is ") else f"is no event ({reason})"
