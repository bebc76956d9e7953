"""session.json: what a gameplay-session says of itself. Opens no other file."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from playmill.config import LINE_POLICY, MAX_TIME_US
from playmill.errors import ClockError, LogError, MissingStream, RecordingError
from playmill.inputs import READERS, reader_for, readers

SESSION_FILE = "session.json"
SESSION_SCHEMA = "gameplay-session/1"
STILL_FORMATS = ("png", "jpg", "jpeg", "npy")

NO_LOG = "no input log: the dataset has no events, and no row of /actions is valid"
"""Warning: of what nobody logged nobody knows whether it was nothing."""
MAX_SESSION_BYTES = 16 << 20
MAX_FPS = 1_000_000
"""Of pictures named by index; and the largest denominator of such a rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What session.json says, checked. The fields are those of `Recording`."""

    session_id: str | None
    """None: it has none."""
    source: Path
    log: Path | None
    reader: str | None
    pts_zero_us: int
    time_base: Fraction | None
    metadata: dict[str, Any]
    warnings: tuple[str, ...]


def read_session(folder: Path, *, pts_zero_us: int | None) -> Session:
    """Read session.json in `folder`.

    Args:
        pts_zero_us: time of pts 0, where session.json does not say it.
    Raises:
        RecordingError: it is broken, a file that it names is missing, or no clock is known.
    """
    session = _SessionFile(folder, read_object(folder / SESSION_FILE))
    schema = session.value.get("schema")
    if schema != SESSION_SCHEMA:
        session.fail(
            "schema", repr(schema)[:80], repr(SESSION_SCHEMA), "Convert the recording to it."
        )
    session_id = session.get("session_id", str, "a name", required=False)
    source, has_pts, time_base = _read_source(session)
    log_file, reader, warnings = _read_log(session)
    return Session(
        session_id=session_id or None,
        source=source,
        log=log_file,
        reader=reader,
        pts_zero_us=_read_anchor(session, pts_zero_us) if has_pts else 0,
        time_base=time_base,
        metadata=session.value,
        warnings=warnings,
    )


class _SessionFile:
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


def read_object(path: Path) -> dict[str, Any]:
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


def _read_source(session: _SessionFile) -> tuple[Path, bool, Fraction | None]:
    """Return the video file or the folder of stills, whether its pts need an anchor, and how long
    a picture named by its index lasts."""
    video = session.get("video", dict, "an object with the video's file and pts_zero_us")
    if video.get("dir") is None:
        path = session.file("video.file", "the name of the video file")
        check_video_file(session.folder, path, "video.file")
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


def _picture_time(session: _SessionFile) -> Fraction:
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


def _read_anchor(session: _SessionFile, given: int | None) -> int:
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


def _read_log(session: _SessionFile) -> tuple[Path | None, str | None, tuple[str, ...]]:
    """Return the log, its reader's name, and warnings."""
    if session.value.get("inputs") is None:
        return None, None, (f"{SESSION_FILE} names none: {NO_LOG}",)
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


def _named_reader(session: _SessionFile, name: str) -> str:
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


def _check_log_clock(session: _SessionFile) -> None:
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


def check_video_file(recording: Path, video: Path, place: str) -> None:
    """Raise MissingStream unless `video`, which is named at `place`, is a file."""
    if not os.path.isfile(video):
        there = os.path.exists(video)
        raise MissingStream(
            str(recording),
            place,
            f"{video.name}, which is no file" if there else f"no file {video.name}"[:200],
            "the recording's video",
            "Put the video there, or mend the name.",
        )
