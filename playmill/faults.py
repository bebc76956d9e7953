"""What to say of faults that a person can mend: a full disk, a missing permission."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from playmill.errors import DiskFull, UnreadableSource

NO_PERMISSION = "may not be read by this user; give it read permission"

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


def of_source(error: Exception, own: Iterable[Path]) -> Exception:
    """Return UnreadableSource for a file of a recording that may not be read; else the error.

    Args:
        own: folders that are the mill's; what else it is denied belongs to recordings.
    """
    if not isinstance(error, PermissionError) or not _names_a_place(error):
        return error
    path = Path(error.filename)
    if any(path.is_relative_to(folder) for folder in own):
        return error
    return UnreadableSource(str(path), NO_PERMISSION)


def in_words(error: OSError) -> str:
    """Write an error of the system as a sentence: where, what, and what to do."""
    told = told_apart(error, [Path.cwd()])
    if told is not error:
        return str(told)
    if not isinstance(error.filename, (str, os.PathLike)) or not error.strerror:
        return str(error)
    path = Path(error.filename)
    if not isinstance(error, PermissionError):
        return f"{path}: {error.strerror}"
    if path.exists() and not os.access(path, os.R_OK):
        return f"{path}: {NO_PERMISSION}"
    # A hidden name is that of a file which was being written.
    place = path.parent if path.name.startswith(".") or not path.exists() else path
    return f"{place}: may not be written by this user; give it write permission"


def _names_a_place(error: OSError) -> bool:
    return isinstance(error.filename, str) and os.path.isabs(error.filename)


def _of_file(error: OSError) -> Path | None:
    """Return the folder of the file that the error names, if it names one."""
    if not _names_a_place(error):
        return None
    folder = Path(error.filename).parent
    return folder if folder.is_dir() else None


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return float("inf")
