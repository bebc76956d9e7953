"""Recording: one session as it lies on disk, and the search for recordings in folders.

Knows session.json and file names; opens neither video nor log.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from playmill.config import LINE_POLICY, MAX_TIME_US, READER_POLICY, PipelineConfig, digest_of
from playmill.errors import ClockError, LogError, MissingStream, RecordingError, UsageError
from playmill.inputs import READERS, Clock, InputReader, LogFiles, reader_for, readers
from playmill.inputs.lines import is_blank
from playmill.inputs.reader import VIDEO_SUFFIXES, is_video, videos_beside
from playmill.lone_logs import LOG_SUFFIXES, SESSION_LOG, LoneLog, lone_logs

log = logging.getLogger(__name__)

SESSION_FILE = "session.json"
SESSION_SCHEMA = "gameplay-session/1"
STILL_FORMATS = ("png", "jpg", "jpeg", "npy")
FOLDER_LOGS = ("inputs.csv", "events.jsonl", "event.jsonl", "annotation.proto")
"""Names that say "input log" where there is one video in the folder."""

MAX_SESSION_BYTES = 16 << 20
MAX_FPS = 1_000_000
"""Of pictures named by index; and the largest denominator of such a rate."""


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
    _check_video_file(path, path, "")
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
        warnings = ("no input log: the dataset has no events",)
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
        return _parse_object(path), ()
    except RecordingError as error:
        return {}, (f"{path.name} is left out: it is {error.found}, not {error.expected}",)


def _without(metadata: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name not in names}


def _log_beside(video: Path) -> Path | None:
    """Return what may be the log of `video`, its suffix in capitals too."""
    names = [SESSION_LOG, *(video.stem + suffix for suffix in LOG_SUFFIXES)]
    if len(videos_beside(video)) == 1:
        names += FOLDER_LOGS
    there = {}
    for name in sorted(os.listdir(video.parent)):
        stem, suffix = os.path.splitext(name)
        there[stem + suffix.lower()] = video.with_name(name)
    beside = (there[name] for name in names if name in there)
    return next((path for path in beside if os.path.isfile(path)), None)


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


def _check_video_file(recording: Path, video: Path, place: str) -> None:
    if not os.path.isfile(video):
        there = os.path.exists(video)
        raise MissingStream(
            str(recording),
            place,
            f"{video.name}, which is no file" if there else f"no file {video.name}"[:200],
            "the recording's video",
            "Put the video there, or mend the name.",
        )


class _Session:
    """session.json while it is read: every wrong value becomes a RecordingError with its place."""

    def __init__(self, folder: Path, value: dict[str, Any]) -> None:
        self.folder, self.value = folder, value

    def fail(
        self,
        place: str,
        found: object,
        expected: str,
        action: str,
        *,
        kind: type[RecordingError] = RecordingError,
    ) -> NoReturn:
        raise kind(str(self.folder / SESSION_FILE), place, str(found), expected, action)

    def get(self, place: str, kind: type, expected: str, *, required: bool = True) -> Any:
        value: Any = self.value
        for name in place.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None and not required:
            return None
        if not isinstance(value, kind) or isinstance(value, bool):
            shown = "nothing" if value is None else repr(value)[:80]
            self.fail(place, shown, expected, f"Mend {place} in {SESSION_FILE}.")
        return value

    def file(self, place: str, expected: str) -> Path:
        """Return the path of a file or folder that session.json names, inside its folder."""
        name: str = self.get(place, str, expected)
        path = self.folder / name
        if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            self.fail(place, repr(name)[:200], f"{expected}, inside the folder", "Mend the name.")
        return path


def _parse_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that the file holds, or raise a RecordingError."""

    def fail(found: str) -> NoReturn:
        raise RecordingError(
            str(path), "", found, "one JSON object in UTF-8", "Mend or restore the file."
        )

    def refuse_constant(name: str) -> NoReturn:
        fail(f"the number {name[:80]}")

    def finite(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else refuse_constant(text)

    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SESSION_BYTES + 1)
        if len(data) > MAX_SESSION_BYTES:
            fail(f"more than {MAX_SESSION_BYTES} bytes")
        value = json.loads(
            data.decode("utf-8-sig"), parse_constant=refuse_constant, parse_float=finite
        )
    except PermissionError:
        fail("a file that may not be read")
    except UnicodeDecodeError as error:
        fail(f"bytes that are not UTF-8 at offset {error.start}")
    except json.JSONDecodeError as error:
        fail(f"broken JSON at line {error.lineno}, column {error.colno}: {error.msg}")
    except (RecursionError, ValueError) as error:
        fail(f"JSON that cannot be read ({type(error).__name__})")
    if not isinstance(value, dict):
        fail(f"a JSON {type(value).__name__}")
    return value


def _read_session(folder: Path, identity: str, config: PipelineConfig) -> Recording:
    session = _Session(folder, _parse_object(folder / SESSION_FILE))
    schema = session.value.get("schema")
    if schema != SESSION_SCHEMA:
        session.fail(
            "schema", repr(schema)[:80], repr(SESSION_SCHEMA), "Convert the recording to it."
        )
    session_id = session.get("session_id", str, "a name", required=False)
    if not session_id:
        session_id = nameless_session_id(folder.name, identity)
    source, has_pts, time_base = _read_source(session)
    log_file, reader, warnings = _read_log(session)
    return Recording(
        path=folder,
        session_id=session_id,
        source=source,
        log=log_file,
        reader=reader,
        clock="unix_us",
        pts_zero_us=_read_anchor(session, config.pts_zero_us) if has_pts else 0,
        session_file=folder / SESSION_FILE,
        metadata=session.value,
        time_base=time_base,
        warnings=warnings,
    )


def _read_source(session: _Session) -> tuple[Path, bool, Fraction | None]:
    """Return the video file or the folder of stills, whether its pts need an anchor, and how long
    a picture named by its index lasts."""
    video = session.get("video", dict, "an object with the video's file and pts_zero_us")
    if video.get("dir") is None:
        path = session.file("video.file", "the name of the video file")
        _check_video_file(session.folder, path, "video.file")
        return path, True, None
    stills = session.file("video.dir", "the name of the folder of pictures")
    if not os.path.isdir(stills):
        raise MissingStream(
            str(session.folder),
            "video.dir",
            f"no folder {stills.name}"[:200],
            "the recording's pictures",
            "Put the folder there, or mend the name.",
        )
    picture_format = session.get("video.format", str, f"one of {', '.join(STILL_FORMATS)}")
    if picture_format not in STILL_FORMATS:
        session.fail(
            "video.format",
            repr(picture_format)[:80],
            f"one of {', '.join(STILL_FORMATS)}",
            "Convert the pictures.",
        )
    naming = session.value["video"].get("naming")
    by_time, by_index = f"<t_us>.{picture_format}", f"<index>.{picture_format}"
    if naming == by_index:
        return stills, True, _picture_time(session)
    if naming is not None and naming != by_time:
        session.fail(
            "video.naming",
            repr(naming)[:80],
            f"{by_time!r}, the pictures' Unix times in microseconds, or {by_index!r} with video.fps"
            " and video.pts_zero_us",
            "Name the pictures by their times.",
            kind=ClockError,
        )
    return stills, False, None


def _picture_time(session: _Session) -> Fraction:
    """Return how long each picture lasts, in seconds, by video.fps: a number or "60000/1001"."""
    fps = session.value["video"].get("fps")
    try:
        if isinstance(fps, (int, float, str)) and not isinstance(fps, bool):
            rate = Fraction(str(fps))
            if 0 < rate <= MAX_FPS and rate.denominator <= MAX_FPS:
                return 1 / rate
    except (ValueError, ZeroDivisionError):
        pass
    session.fail(
        "video.fps",
        "nothing" if fps is None else repr(fps)[:80],
        "pictures a second, for pictures named by their index",
        "Add it, or name the pictures by their times.",
        kind=ClockError,
    )


def _read_anchor(session: _Session, given: int | None) -> int:
    anchor = session.value["video"].get("pts_zero_us")
    if anchor is None and given is not None:
        return given
    if not isinstance(anchor, int) or isinstance(anchor, bool) or abs(anchor) >= MAX_TIME_US:
        session.fail(
            "video.pts_zero_us",
            "nothing" if anchor is None else repr(anchor)[:80],
            "the Unix time of the video's pts 0, an integer in microseconds",
            "Add it: without it no event can be given to a frame.",
            kind=ClockError,
        )
    return anchor


def _read_log(session: _Session) -> tuple[Path | None, str | None, tuple[str, ...]]:
    """Return the log, its reader's name, and warnings."""
    if session.value.get("inputs") is None:
        return None, None, (f"{SESSION_FILE} names no input log: the dataset has no events",)
    path = session.file("inputs.file", "the name of the input log")
    log_format = session.get("inputs.format", str, "'jsonl', or the name of a reader")
    reader = SESSION_SCHEMA
    if log_format != "jsonl":
        reader = _named_reader(session, log_format)
    else:
        _check_log_clock(session)
    if not os.path.isfile(path):
        raise LogError(
            str(session.folder),
            "inputs.file",
            f"no file {path.name}"[:200],
            "the recording's input log",
            f"Put the log there, or take `inputs` out of {SESSION_FILE} if there is none.",
        )
    return path, reader, ()


def _named_reader(session: _Session, name: str) -> str:
    # Playmill's own readers look at other files too, and find them where there is no session.json.
    packaged = [reader for reader in readers() if reader not in READERS]
    if name not in packaged or reader_for(name).policies == (LINE_POLICY,):
        session.fail(
            "inputs.format",
            repr(name)[:80],
            f"'jsonl', or a reader of an installed package ({', '.join(packaged) or 'none is'}) for"
            " logs with times",
            f"Convert the log, install the package with its reader, or take {SESSION_FILE} away"
            " if the recorder's own files are all there.",
            kind=ClockError,
        )
    return name


def _check_log_clock(session: _Session) -> None:
    for name, expected in (("time_unit", "us"), ("clock", "unix")):
        found = session.get(f"inputs.{name}", str, repr(expected))
        if found != expected:
            session.fail(
                f"inputs.{name}",
                repr(found)[:80],
                repr(expected),
                "Convert the log: its times must be those of the video's clock.",
                kind=ClockError,
            )
