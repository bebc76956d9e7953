"""The search for recordings in folders. Opens no video, and only logs that lie beside none."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from playmill.errors import UsageError
from playmill.inputs.reader import VIDEO_SUFFIXES, is_video
from playmill.recording.lone_logs import LOG_SUFFIXES, LoneLog, lone_logs
from playmill.recording.session_file import SESSION_FILE

log = logging.getLogger(__name__)


def discover(
    paths: Iterable[Path],
    *,
    skip: Iterable[Path] = (),
    tell: Callable[[LoneLog], object] | None = None,
) -> Iterator[Path]:
    """Yield the recordings in `paths`, each once, in the order of `paths`, then by name.

    A folder with session.json is one recording and is not searched further; a video file
    without one beside it is a recording. Hidden folders and those in `skip` are passed over.

    Args:
        tell: called, once each, with the input logs of known formats that no video lies beside.
    Raises:
        UsageError: a path does not exist or is no recording, or nothing was found in it.
    """
    skipped = {path.resolve() for path in skip}
    seen: set[Path] = set()
    for path in paths:
        found = False
        for item in _search(path, skipped):
            found = True
            name = item.path if isinstance(item, LoneLog) else item
            if name in seen:
                continue
            seen.add(name)
            if not isinstance(item, LoneLog):
                yield item
            elif tell is not None:
                tell(item)
        if not found:
            raise UsageError(
                f"{path}: no recording found in it; looked for folders with {SESSION_FILE}, videos"
                f" ({' '.join(sorted(VIDEO_SUFFIXES))}), and input logs that lack their video"
                " (hidden folders and the datasets folder are not searched)"
            )


def _search(path: Path, skipped: set[Path]) -> Iterator[Path | LoneLog]:
    if not os.path.exists(path):
        raise UsageError(f"{path}: there is no such file or folder")
    if path.is_dir():
        yield from _search_folder(path.resolve(), skipped)
    elif _is_session(path.resolve().parent):
        yield path.resolve().parent
    elif is_video(path):
        yield path.resolve()
    else:
        raise UsageError(
            f"{path}: is no recording; give a folder with {SESSION_FILE}, a video file (the log"
            " beside it is found), or a folder to be searched for them"
        )


def _is_session(folder: Path) -> bool:
    # os.path.isfile, unlike Path.is_file, is False for what cannot be looked at.
    return os.path.isfile(folder / SESSION_FILE)


def _search_folder(top: Path, skipped: set[Path]) -> Iterator[Path | LoneLog]:
    visited = set(skipped)
    waiting = [top]
    while waiting:
        path = waiting.pop()
        if path in visited:
            continue
        visited.add(path)
        if not os.path.isdir(path) or _is_session(path):
            yield path
        else:
            found, logs = _entries(path)
            waiting += reversed(found)
            videos = [entry for entry in found if is_video(entry)]
            yield from lone_logs(logs, videos)


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders and videos in `folder`, and what may be logs, by name.

    Symbolic links are followed.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        log.warning("%s: cannot be searched: %s", folder, error.strerror)
        return [], []
    found, logs = [], []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        a_video = is_video(path) and os.path.isfile(path)
        # A link that leads nowhere, or in a circle, is neither.
        if a_video or os.path.isdir(path):
            found.append(path.resolve() if entry.is_symlink() else path)
        elif path.suffix.lower() in LOG_SUFFIXES:
            logs.append(path)
    return found, logs
