"""What to say when a disk is full: which folder, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from playmill.errors import DiskFull

_FULL = (errno.ENOSPC, errno.EDQUOT)


def told_apart(error: Exception, folders: Iterable[Path]) -> Exception:
    """Return DiskFull in place of an error that a full disk is behind; else the error itself.

    Args:
        folders: where a task writes; that with the least room is named if the error names no file.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            folder = _of_file(cause) or min(folders, key=_free_bytes)
            return DiskFull(str(folder), f"{_free_bytes(folder) / 1e6:.1f} MB", str(cause))
        cause = cause.__cause__ or cause.__context__
    return error


def _of_file(error: OSError) -> Path | None:
    """Return the folder of the file that the error names, if it names one."""
    if not isinstance(error.filename, str) or not os.path.isabs(error.filename):
        return None
    folder = Path(error.filename).parent
    return folder if folder.is_dir() else None


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return float("inf")
