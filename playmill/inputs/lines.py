"""Lines of a text log, and what becomes of those that are no events. Knows no log format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

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


class Rejected(Exception):
    """A line is no event; the one argument is the reason."""


def _no_constant(name: str) -> NoReturn:
    raise Rejected(f"not JSON: {name}")


class DecimalText(str):
    """A JSON number with a point or an exponent, as it is written."""

    __slots__ = ()


_DECODE = json.JSONDecoder(parse_constant=_no_constant).raw_decode
_DECODE_EXACT = json.JSONDecoder(parse_constant=_no_constant, parse_float=DecimalText).raw_decode


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
    value = parse_json(decoded(line), exact=exact)
    if type(value) is not dict:
        raise Rejected(f"is JSON {type(value).__name__}, not an object")
    return value


def log_lines(log: Path) -> Iterator[bytes]:
    """Yield each line without its end; of one that is too long, its beginning (still too long).

    A byte order mark is left out. Memory is bounded by `MAX_LINE_BYTES`.

    Raises:
        MissingStream: there is no such file.
    """
    check_log_file(log)
    with log.open("rb") as file:
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        rest, is_long = b"", False
        while block := file.read(_BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if not is_long:
                    yield line.rstrip(b"\r") if len(line) <= MAX_LINE_BYTES + 1 else line
                is_long = False
            if is_long or len(rest) > MAX_LINE_BYTES + 1:
                if not is_long:
                    yield rest
                rest, is_long = b"", True
        if rest:
            yield rest.rstrip(b"\r")


def filled_lines(log: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number (from 1) and content of each line that is not blank, as `log_lines` does.

    A blank line says nothing that could be lost.
    """
    for line_number, line in enumerate(log_lines(log), start=1):
        if line and not line.isspace():
            yield line_number, line


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
