"""Manifest: everything that is decided about one job before a frame is decoded, as data.

Owns the keys that name parts and datasets. Reads the sources once, decodes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playmill.config import LINE_POLICY, READER_POLICY, READER_WINDOW, PipelineConfig, digest_of
from playmill.encoders import EncoderSpec
from playmill.errors import ClockError, SourceChanged
from playmill.inputs import Anchor, Clock, reader_for
from playmill.inputs.reader import anchor_of
from playmill.phrases import plural
from playmill.plan import Chunk, cut, plan_digest
from playmill.recording import Recording
from playmill.schema import SCHEMA_VERSION

if TYPE_CHECKING:  # which would import the demuxer into every sender
    from playmill.video_index import VideoIndex

MANIFEST_VERSION = 2
DECODER = "pyav"
DEFAULT_WINDOW_US = 100_000
"""Window where there is no reader to have a default of its own, and reach where it is unbounded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A source as it was when the job was submitted; a change afterwards is an error."""

    path: str
    """Relative to the recording's folder ("" for the recording itself)."""
    size: int
    """Bytes; for a folder of stills, of all its files."""
    mtime_ns: int
    """Latest change, nanoseconds."""

    @classmethod
    def of(cls, path: Path, *, base: Path) -> SourceFile:
        """Look at a file, or at every file of a folder."""
        name = os.path.relpath(path, base) if path != base else ""
        if path.is_dir():
            stats = [
                entry.stat(follow_symlinks=os.path.isfile(entry)) for entry in os.scandir(path)
            ]
            # The folder's own time: a picture's name is its time, and a new name shows there.
            latest = max(stat.st_mtime_ns for stat in (path.stat(), *stats))
            return cls(path=name, size=sum(stat.st_size for stat in stats), mtime_ns=latest)
        stat = path.stat()
        return cls(path=name, size=stat.st_size, mtime_ns=stat.st_mtime_ns)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `SourceFile(**value)` is the inverse."""
        return {"path": self.path, "size": self.size, "mtime_ns": self.mtime_ns}


def source_files(recording: Recording) -> tuple[SourceFile, ...]:
    """Return every source of `recording` with its size and time."""
    return tuple(SourceFile.of(path, base=recording.path) for path in recording.sources)


def check_unchanged(recording: Recording, before: Iterable[SourceFile]) -> None:
    """Raise SourceChanged if a source is not what it was, or is another."""
    for then, now in zip_longest(before, source_files(recording)):
        if then != now:
            raise SourceChanged(
                str(recording.path),
                "",
                _difference(then, now),
                "a file that stays as it is while it is processed",
                "Submit the recording again once nothing writes to it.",
            )


def _difference(then: SourceFile | None, now: SourceFile | None) -> str:
    if now is None:
        return f"no {then.path!r} any more" if then else "nothing"
    if then is None:
        return f"a new source {now.path!r}"
    if then.path != now.path:
        return f"the source {now.path!r} in place of {then.path!r}"
    sizes = "" if then.size == now.size else f" ({now.size} bytes, no longer {then.size})"
    return f"{now.path or 'the file'!r} written to since it was submitted{sizes}"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPlan:
    """What a manifest says to those who only want to know what is left to do."""

    parts_key: str
    session_id: str
    weights_digest: str
    chunk_frames: tuple[int, ...]
    """Frames that the packets promise, of each chunk."""
    warnings: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Frames that the packets promise, in all."""
        return sum(self.chunk_frames)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> JobPlan:
        """Read it out of a manifest's JSON, without building what is not asked for."""
        return cls(
            parts_key=value["parts_key"],
            session_id=value["session_id"],
            weights_digest=value["weights_digest"],
            chunk_frames=tuple(chunk["num_frames"] for chunk in value["chunks"]),
            warnings=tuple(value["warnings"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One job's plan. Equal sources and configuration give an equal manifest."""

    session_id: str
    video_name: str
    """File name of the video, for messages."""
    video_digest: str
    codec: str
    width: int
    height: int
    time_base: Fraction
    """Seconds per tick of pts."""
    pts_zero_us: int
    clock: str
    session_digest: str | None
    """sha256 of session.json; None without one."""
    log_digest: str | None
    """sha256 of the input log; None without one."""
    reader: str | None
    weights_digest: str
    preprocessing: str
    chunks: tuple[Chunk, ...]
    config: PipelineConfig
    """With the reader's policy and window filled in."""
    sides_digest: str | None = None
    """sha256 of the digests of the log's further files; None without any."""
    line_pts: tuple[int, ...] | None = None
    """pts of the frames that lines 0, 1, ... of the log belong to; None: lines have own times."""
    clock_report: dict[str, Any] | None = None
    """The log's clock against the container's; None where there is only one."""
    warnings: tuple[str, ...] = ()

    @property
    def parts_key(self) -> str:
        """Name of the features: equal keys mean equal bits on the same kind of machine."""
        return digest_of(
            self.video_digest,
            plan_digest(self.chunks),
            self.config.extraction(),
            self.weights_digest,
            self.preprocessing,
            DECODER,
        )

    @property
    def dataset_key(self) -> str:
        """Name of the published bytes."""
        names = ("parts_key", "session_id", "clock", "pts_zero_us", "reader")
        digests = ("session_digest", "log_digest", "sides_digest")
        return dataset_key(self.config, {name: getattr(self, name) for name in (*names, *digests)})

    @property
    def num_frames(self) -> int:
        """Frames that the packets promise; decoding may give fewer."""
        return sum(chunk.num_frames for chunk in self.chunks)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` is the inverse."""
        names = [name for name in self.__slots__ if name not in ("chunks", "config", "time_base")]
        return {name: getattr(self, name) for name in names} | {
            "version": MANIFEST_VERSION,
            "parts_key": self.parts_key,
            "time_base": f"{self.time_base.numerator}/{self.time_base.denominator}",
            "chunks": [chunk.to_json() for chunk in self.chunks],
            "config": self.config.to_json(),
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Manifest:
        """Build a manifest from `to_json`'s object; raise ValueError for another version."""
        if value.get("version") != MANIFEST_VERSION:
            raise ValueError(f"manifest version {value.get('version')!r}, not {MANIFEST_VERSION}")
        derived = ("version", "parts_key")
        fields = {name: item for name, item in value.items() if name not in derived}
        return cls(
            **fields
            | {
                "time_base": Fraction(value["time_base"]),
                "chunks": tuple(Chunk.from_json(chunk) for chunk in value["chunks"]),
                "config": PipelineConfig.from_json(value["config"]),
                "line_pts": None if value["line_pts"] is None else tuple(value["line_pts"]),
                "warnings": tuple(value["warnings"]),
            }
        )


def dataset_key(config: PipelineConfig, facts: Mapping[str, Any]) -> str:
    """Return the name of a dataset's bytes.

    Args:
        config: with the reader's policy and window filled in.
        facts: parts_key, session_id, clock, pts_zero_us, reader, and the digests of session.json,
            log and sides, as in `Manifest`.
    """
    return digest_of(dict(facts), config.labelling(), SCHEMA_VERSION)


def file_digest(path: Path | None) -> str | None:
    """Return the sha256 hex digest of a file's bytes; None for no file."""
    if path is None:
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_manifest(
    recording: Recording,
    config: PipelineConfig,
    *,
    index: Callable[[Path], VideoIndex],
    encoder: EncoderSpec,
) -> Manifest:
    """Index, digest and plan one recording.

    Args:
        index: indexes a video source; `DecodeProcess.index`, so that a crash can be survived.
        encoder: what the features will be made with.
    Raises:
        RecordingError: the video cannot be indexed.
    """
    video = index(recording.source)
    anchor = _anchor(recording, video)
    chunks = cut(video, target_frames=config.chunk_frames)
    repeated = int((~video.discard).sum()) - sum(chunk.num_frames for chunk in chunks)
    warnings = (
        f"{plural(repeated, 'packet')} with the time of another; one frame of each time is kept",
    )
    return Manifest(
        session_id=recording.session_id,
        video_name=recording.source.name,
        video_digest=video.digest,
        codec=video.codec,
        width=video.width,
        height=video.height,
        time_base=recording.time_base or video.time_base,
        pts_zero_us=anchor.pts_zero_us,
        clock=recording.clock if anchor.clock == "unix_us" else anchor.clock,
        session_digest=file_digest(recording.session_file),
        log_digest=file_digest(recording.log),
        sides_digest=sides_digest(recording),
        reader=recording.reader,
        line_pts=anchor.line_pts,
        clock_report=None if anchor.report is None else dict(anchor.report),
        weights_digest=encoder.weights_digest,
        preprocessing=encoder.preprocessing,
        chunks=chunks,
        config=_completed(config, recording.reader),
        warnings=(
            *recording.warnings,
            *video.warnings,
            *anchor.warnings,
            *(warnings if repeated else ()),
        ),
    )


def sides_digest(recording: Recording) -> str | None:
    """Return one digest of the log's further files; None without any."""
    return digest_of(*map(file_digest, recording.sides)) if recording.sides else None


def _completed(config: PipelineConfig, reader_name: str | None) -> PipelineConfig:
    """Return `config` with the defaults of the recording's reader in place of "reader's"."""
    reader = None if reader_name is None else reader_for(reader_name)
    changes: dict[str, Any] = {}
    if config.policy == READER_POLICY:
        changes["policy"] = reader.policies[0] if reader and reader.policies else "following"
    if config.window_us == READER_WINDOW:
        changes["window_us"] = reader.default_window_us if reader else DEFAULT_WINDOW_US
    return replace(config, **changes)


def _anchor(recording: Recording, video: VideoIndex) -> Anchor:
    """Return when pts 0 was: what the recording or the user says, else what the log's files say.

    Raises:
        ClockError: nobody says it.
    """
    found, given_us = None, recording.pts_zero_us
    clock: Clock = "unix_us"
    if recording.reader is not None and recording.log_files is not None:
        reader = reader_for(recording.reader)
        try:
            found = anchor_of(reader, recording.log_files, video.times())
        except ClockError:
            if given_us is None or LINE_POLICY in reader.policies:
                raise
        if found is None and given_us is not None:
            clock = reader.clock(recording.log_files)
    if given_us is not None:
        no_other = Anchor(pts_zero_us=given_us, clock=clock)
        return no_other if found is None else _given(found, given_us)
    if found is None:
        raise ClockError(
            str(recording.path),
            "",
            "no clock: nothing says when the video began",
            "the Unix time of the video's pts 0",
            "Give --pts-zero-us.",
        )
    return found


def _given(found: Anchor, pts_zero_us: int) -> Anchor:
    """Return what the files say, but with the user's word on when pts 0 was."""
    off_us = pts_zero_us - found.pts_zero_us
    warnings = found.warnings
    if abs(off_us) > DEFAULT_WINDOW_US:
        warnings += (
            f"pts 0 is {off_us / 1000:+.1f} ms off what the recording's files say, as --pts-zero-us"
            " or session.json asks",
        )
    return replace(found, pts_zero_us=pts_zero_us, warnings=warnings)
