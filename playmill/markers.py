"""Small JSON files that appear whole: written beside, put on disk, then linked or renamed.

Each begins with the CRC-32 of the rest, as the member "crc32": one bit that a disk has changed in a
number would still be JSON, and frames would get times that nobody saw.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_CRC = re.compile(rb'\{"crc32": "([0-9a-f]{8})"(?:, )?')


def fsync(path: Path) -> None:
    """Put a file, or the names in a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Give the name of a file beside `path` to write into; it is gone after the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        yield temporary
    except OSError as error:
        if error.filename is None:  # a full disk says of which file no more than this
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def text_of(value: dict[str, Any]) -> str:
    """Return what a file holds for `value`: one line of JSON, in ASCII."""
    rest = json.dumps(value)
    tail = f", {rest[1:]}" if value else "}"
    return f'{{"crc32": "{zlib.crc32(rest.encode()):08x}"{tail}'


def _write(temporary: Path, text: str) -> None:
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _checked(data: bytes) -> bytes:
    """Return JSON without its checksum, which must be right."""
    found = _CRC.match(data)
    if found is None:
        raise ValueError("it does not begin with a checksum")
    rest = b"{" + data[found.end() :].rstrip(b"\n")  # an editor ends a line
    if int(found[1], 16) != zlib.crc32(rest):
        raise ValueError("its checksum is that of another content")
    return rest


def put_if_absent(path: Path, value: dict[str, Any]) -> bool:
    """Write JSON to `path` unless it exists; say whether this call wrote it."""
    with temporary_beside(path) as temporary:
        _write(temporary, text_of(value))
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A network file system may ask twice, and report the first answer's success as this.
            if temporary.stat().st_nlink < 2:
                return False
    fsync(path.parent)
    return True


def replace(path: Path, value: dict[str, Any]) -> None:
    """Write JSON to `path`, whole at every moment."""
    replace_text(path, text_of(value))
    fsync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a text for people to `path`, whole at every moment; what was there stays on an error.

    Raises:
        OSError: it cannot be written.
    """
    with temporary_beside(path) as temporary:
        _write(temporary, text)
        os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`; None where there is no file.

    Raises:
        ValueError: the file is damaged, or not one of these.
    """
    try:
        value: dict[str, Any] = json.loads(_checked(path.read_bytes()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return value


def read_value(path: Path, build: Callable[[dict[str, Any]], T]) -> T | None:
    """Build a value from the JSON object in a file; None: there is none.

    Raises:
        ValueError: it is damaged, or another object.
    """
    value = read_json(path)
    try:
        return None if value is None else build(value)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
