"""Input logs without a video beside them: no recording, but worth a word.

Opens only files whose names say that they may be logs, and that no video beside them explains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from playmill.errors import RecordingError
from playmill.inputs import GameplaySessionReader, LogFiles, readers
from playmill.inputs.lines import opening_objects

LOG_SUFFIXES = (".jsonl", ".csv", ".mcap", ".proto")
"""Suffixes that say "input log"."""
SESSION_LOG = "inputs.jsonl"
"""What gameplay-session/1 calls its log, as a rule."""
_VIDEO_NAMES = ("recording.mp4", "video.mp4")
"""Names that a format gives to its video, whatever its log is called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoneLog:
    """An input log of a known format that no video lies beside."""

    path: Path
    format: str
    """Name of its reader."""
    missing: str
    """What the format expects beside it."""

    @property
    def why(self) -> str:
        """Say why nothing is made of it, and what to do."""
        return (
            f"an input log ({self.format}) without its video; put {self.missing} beside it,"
            " or leave it"
        )


def lone_logs(logs: Iterable[Path], videos: Sequence[Path]) -> Iterator[LoneLog]:
    """Yield those of a folder's logs that no video in the folder belongs to.

    Args:
        logs: files in one folder whose names end in one of `LOG_SUFFIXES`.
        videos: the videos in that folder.
    """
    stems = {video.stem for video in videos}
    for log in logs:
        if log.stem not in stems:
            found = _known(log, videos)
            if found is not None:
                yield found


def _known(log: Path, videos: Sequence[Path]) -> LoneLog | None:
    # A reader looks beside a video: it is asked about the one that is not there.
    for absent in (log.with_suffix(".mp4"), *map(log.with_name, _VIDEO_NAMES)):
        found = _find(absent, log)
        if found is not None:
            # A log whose name does not depend on the video's belongs to any video beside it.
            if videos and _find(videos[0], log) is not None:
                return None
            return LoneLog(path=log, format=found, missing=f"the video (e.g. {absent.name})")
    if log.name == SESSION_LOG and not videos and _is_of_a_session(log):
        name = GameplaySessionReader().name
        return LoneLog(path=log, format=name, missing="session.json and the video")
    return None


def _find(video: Path, log: Path) -> str | None:
    """Return the name of the first reader that takes `log` for that of `video`."""
    for reader in readers().values():
        try:
            files: LogFiles | None = reader.find(video)
        except RecordingError:  # a broken mapping; said once there is a video
            continue
        if files is not None and files.log == log:
            return reader.name
    return None


def _is_of_a_session(log: Path) -> bool:
    return any({"t", "type"} <= line.keys() for line in opening_objects(log))
