"""Small JSON files that appear whole: written beside, put on disk, then linked or renamed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def fsync(path: Path) -> None:
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
    finally:
        temporary.unlink(missing_ok=True)


def _write(temporary: Path, value: dict[str, Any]) -> None:
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, ensure_ascii=True)
        stream.flush()
        os.fsync(stream.fileno())


def put_if_absent(path: Path, value: dict[str, Any]) -> bool:
    """Write JSON to `path` unless it exists; say whether this call wrote it."""
    with temporary_beside(path) as temporary:
        _write(temporary, value)
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
    with temporary_beside(path) as temporary:
        _write(temporary, value)
        os.replace(temporary, path)
    fsync(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`; None where there is no file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} holds no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value
