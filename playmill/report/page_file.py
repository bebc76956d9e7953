"""Put a page in its place: whole or not at all, and never over what is no page of ours."""

from __future__ import annotations

import os
from pathlib import Path

from playmill.errors import UsageError
from playmill.markers import replace_text
from playmill.report import document

_HEAD_BYTES = 4096


def made_as(path: Path) -> str | None:
    """Return what the page in `path` says of its making; None if it is no page of ours.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    with path.open("rb") as stream:
        return document.made_as(stream.read(_HEAD_BYTES).decode("utf-8", "replace"))


def check_output(path: Path) -> None:
    """Raise UsageError if a page cannot be written to `path`, or something else lies there."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name the page's file, e.g. {path / 'report.html'}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: the folder {path.parent} cannot be written to")
    if path.exists() and path.stat().st_size and made_as(path) is None:
        raise UsageError(
            f"{path}: exists and is no page of playmill's; name another file, or remove it"
        )


def write_page(path: Path, page: str) -> None:
    """Write `page` to `path`, whole at every moment.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    replace_text(path, page)
