"""Recording: one session as it lies on disk. Knows file names; opens neither video nor log."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from playmill.config import LINE_POLICY, READER_POLICY, PipelineConfig, digest_of
from playmill.errors import ClockError, LogError, RecordingError, UsageError
from playmill.inputs import Clock, InputReader, LogFiles, reader_for, readers
from playmill.inputs.lines import is_blank
from playmill.inputs.reader import videos_beside
from playmill.recording.lone_logs import LOG_SUFFIXES, SESSION_LOG
from playmill.recording.session_file import (
    NO_LOG,
    SESSION_FILE,
    SESSION_SCHEMA,
    check_video_file,
    read_object,
    read_session,
)

FOLDER_LOGS = ("inputs.csv", "events.jsonl", "event.jsonl", "annotation.proto")
"""Names that say "input log" where there is one video in the folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One recording, checked as far as that goes without opening its video and log."""

    path: Path
    """Folder that holds session.json, else the video file."""
    session_id: str
    """The session's name; for a bare video a slug of its file name and 8 hex digits."""
    source: Path
    """The video file, or the folder of still pictures."""
    log: Path | None
    """The input log, if there is one."""
    reader: str | None
    """Name of the log's format; None without a log."""
    clock: Clock
    """"stream" where only the video's own clock is known."""
    pts_zero_us: int | None
    """Time of pts 0 on `clock`; None: the log's reader finds it (`InputReader.anchor`)."""
    session_file: Path | None
    """session.json, or the file in its place that the log's format has, if there is one."""
    metadata: dict[str, Any]
    """The object in `session_file`; {} without one."""
    time_base: Fraction | None = None
    """Seconds from one picture to the next where pictures are named by index; None: the video's
    own time base, or microseconds."""
    sides: tuple[Path, ...] = ()
    """Further files that the log's reader looks at."""
    warnings: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Path, ...]:
        """Every file or folder that the dataset is made of."""
        named = (self.session_file, self.source, self.log, *self.sides)
        return tuple(path for path in named if path is not None)

    @property
    def log_files(self) -> LogFiles | None:
        """The files as the log's reader wants them; None without a log."""
        if self.log is None:
            return None
        return LogFiles(
            video=self.source, log=self.log, metadata=self.session_file, sides=self.sides
        )


def read_recording(path: Path, *, identity: str, config: PipelineConfig | None = None) -> Recording:
    """Read what a recording says of itself.

    Args:
        path: a folder with session.json, or a video file, as `discover` yields it.
        identity: the recording's lasting name (its path under its root); names a bare video.
        config: says when pts 0 was and what the log's format is, where the recording does not.
    Raises:
        RecordingError: session.json is broken, a named file is missing, or no clock is known.
        UsageError: no reader has the name that `config` gives, or the policy that it asks for
            makes no sense for the recording's log.
    """
    config = config or PipelineConfig()
    if path.is_dir():
        recording = _read_session(path, identity, config)
    else:
        recording = _read_bare_video(path, identity, config)
    check_policy(recording.path, recording.reader, config.policy)
    return recording


def check_policy(path: Path, reader: str | None, policy: str) -> None:
    """Raise UsageError if `policy` makes no sense for what the log's reader gives.

    Args:
        path: what is spoken of.
        reader: name of the log's reader; None without a log.
        policy: as in `PipelineConfig`.
    """
    policies = reader_for(reader).policies if reader else ()
    wrong = policy not in (*policies, READER_POLICY) if policies else policy == LINE_POLICY
    if wrong:
        own = " or ".join(policies) or "any policy but line"
        raise UsageError(
            f"{path}: comes from a recording of the format {reader or 'bare video'}, whose policy"
            f" is {own}; {policy!r} makes no sense for it. Leave the policy out, or give such"
            " recordings in a run of their own."
        )


def nameless_session_id(name: str, identity: str) -> str:
    """Return the session id of a recording that has none: a slug and 8 hex digits."""
    slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-")[:60]
    return f"{slug or 'recording'}-{digest_of(identity)[:8]}"


def _read_bare_video(path: Path, identity: str, config: PipelineConfig) -> Recording:
    check_video_file(path, path, "")
    found = _find_log(path, config.input_format)
    if found is not None:
        return _read_foreign(path, identity, config, *found)
    if config.input_format is not None:
        raise LogError(
            str(path),
            "",
            "no such log beside it",
            f"a log of the format {config.input_format}, as --format says",
            "Put the log there (docs/readers.md has its name), or leave --format out.",
        )
    pts_zero_us = config.pts_zero_us
    log_file = _log_beside(path)
    warnings: tuple[str, ...] = ()
    if log_file is None:
        warnings = (NO_LOG + _not_taken(path),)
        if pts_zero_us is None:
            warnings += ("no clock: times are those of the video stream, pts 0 at 0 us",)
    elif log_file.name != SESSION_LOG:
        raise _unknown_log(path, log_file)
    elif pts_zero_us is None:
        raise ClockError(
            str(path),
            "",
            f"{log_file.name} beside it, but no {SESSION_FILE}",
            "the Unix time of the video's pts 0",
            f"Add a {SESSION_FILE} with video.pts_zero_us, or give --pts-zero-us.",
        )
    return Recording(
        path=path,
        session_id=nameless_session_id(path.stem, identity),
        source=path,
        log=log_file,
        reader=SESSION_SCHEMA if log_file else None,
        clock="stream" if pts_zero_us is None else "unix_us",
        pts_zero_us=pts_zero_us or 0,
        session_file=None,
        metadata={},
        warnings=warnings,
    )


def _find_log(video: Path, input_format: str | None) -> tuple[InputReader, LogFiles] | None:
    """Return the reader that knows the log beside `video`, and the files that it found."""
    asked = readers() if input_format is None else {input_format: reader_for(input_format)}
    found = [(reader, files) for reader in asked.values() if (files := reader.find(video))]
    if len(found) > 1:
        names = ", ".join(f"{files.log.name} ({reader.name})" for reader, files in found)
        raise LogError(
            str(video),
            "",
            f"more than one input log: {names}",
            "one input log beside a video",
            "Name the right one's format with --format, or move the others away.",
        )
    return found[0] if found else None


def _read_foreign(
    path: Path, identity: str, config: PipelineConfig, reader: InputReader, files: LogFiles
) -> Recording:
    """Read a video with a log of a format that has no session.json."""
    metadata: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    if files.metadata is not None:
        metadata, warnings = _read_metadata(files.metadata)
        metadata = metadata if config.keep_text else _without(metadata, reader.private)
    given = metadata.get("session_id")
    return Recording(
        path=path,
        session_id=given
        if given and isinstance(given, str)
        else nameless_session_id(path.stem, identity),
        source=files.video,
        log=files.log,
        reader=reader.name,
        clock="unix_us",
        pts_zero_us=config.pts_zero_us,
        session_file=files.metadata,
        metadata=metadata,
        sides=files.sides,
        warnings=warnings,
    )


def _read_metadata(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the JSON object in `path`; without it a recording is sound, so none is a warning."""
    try:
        return read_object(path), ()
    except RecordingError as error:
        return {}, (f"{path.name} is left out: it is {error.found}, not {error.expected}",)


def _without(metadata: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name not in names}


def _log_beside(video: Path) -> Path | None:
    """Return what may be the log of `video`, its suffix in capitals too."""
    names = [SESSION_LOG, *(video.stem + suffix for suffix in LOG_SUFFIXES)]
    if len(videos_beside(video)) == 1:
        names += FOLDER_LOGS
    there: dict[str, Path] = {}
    for name in sorted(os.listdir(video.parent)):
        stem, suffix = os.path.splitext(name)
        there.setdefault(name.lower(), video.with_name(name))
        there[stem + suffix.lower()] = video.with_name(name)
    beside = (there[name] for name in names if name in there)
    return next((path for path in beside if os.path.isfile(path)), None)


def _not_taken(video: Path) -> str:
    """Say which files beside a lone video look like its log, though no reader takes them."""
    if len(videos_beside(video)) > 1:
        return ""
    logs = [
        name
        for name in sorted(os.listdir(video.parent))
        if os.path.splitext(name)[1].lower() in LOG_SUFFIXES
        and os.path.isfile(video.with_name(name))
    ]
    if not logs:
        return ""
    return f". Beside it lies {', '.join(logs[:3])}, which no reader takes: see playmill formats"


def _unknown_log(video: Path, log_file: Path) -> LogError:
    """Return what to raise for a log that no reader takes."""
    found, action = (
        "in a format that no reader here knows",
        "Convert the log, name its reader with --format",
    )
    if is_blank(log_file):
        found, action = "and nothing in it that tells its format", "Restore the log"
    elif log_file.suffix != log_file.suffix.lower():
        found, action = "with a suffix in capitals", "Give it one in small letters"
    return LogError(
        str(video),
        "",
        f"{log_file.name} beside it, {found}",
        f"an input log in one of the formats {', '.join(readers())}",
        f"{action}, or move it away to process the video alone.",
    )


def _read_session(folder: Path, identity: str, config: PipelineConfig) -> Recording:
    session = read_session(folder, pts_zero_us=config.pts_zero_us)
    return Recording(
        path=folder,
        session_id=session.session_id or nameless_session_id(folder.name, identity),
        source=session.source,
        log=session.log,
        reader=session.reader,
        clock="unix_us",
        pts_zero_us=session.pts_zero_us,
        session_file=folder / SESSION_FILE,
        metadata=session.metadata,
        time_base=session.time_base,
        warnings=session.warnings,
    )
