"""Index a video's packets by demuxing alone. Decodes nothing, cuts nothing."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.packet
import av.stream
import numpy as np
from av.codec.hwaccel import HWAccel
from av.video.stream import VideoStream
from numpy.typing import NDArray

from playmill.decoding.keyframes import CLOSED, NOTHING, OPEN, UNIT_RULES, key_reader
from playmill.decoding.missing_pts import NO_TIME, repair_pts
from playmill.decoding.source_file import READ_BYTES, SourceFile
from playmill.errors import CorruptVideo, MissingStream, SourceChanged
from playmill.inputs import VideoTimes
from playmill.phrases import NOTE, plural

STILL_NAME = re.compile(r"([0-9]{1,18})\.(png|jpg|jpeg|npy)", re.IGNORECASE | re.ASCII)
"""Name of a still picture: its time in microseconds, or its index."""

CLOCK_MARK = re.compile(rb"[0-9]{19}")
"""A wall clock in nanoseconds as text, as OWAMcap's recorder writes one a second."""
_MARK_CODECS = ("srt", "subrip", "text")
_MAX_MARKS = 1_000_000

_GENERATE_PTS = 0x0001  # AVFMT_FLAG_GENPTS, which PyAV sets: made-up times would go unflagged


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoIndex:
    """All packets of one video stream, in decode order. Arrays are read-only."""

    source: str
    """Path of the file, or of the folder of stills."""
    digest: str
    """sha256 of the file's bytes; of a folder: of its names and files' digests."""
    codec: str
    """FFmpeg's name of the codec, "h264"."""
    width: int
    """Pixels, as the header says; frames have their own size."""
    height: int
    """Pixels, as the header says."""
    time_base: Fraction
    """Seconds per tick."""
    pts: NDArray[np.int64]
    """(P,) presentation time in ticks; made up where `repaired`."""
    dts: NDArray[np.int64]
    """(P,) decoding time in ticks, NO_TIME where there is none."""
    pos: NDArray[np.int64]
    """(P,) byte position in the file, -1 where unknown."""
    size: NDArray[np.int64]
    """(P,) bytes."""
    keyframe: NDArray[np.bool_]
    """(P,) marked as a keyframe by the container."""
    clean: NDArray[np.bool_]
    """(P,) decoding may start here: frames at and after its pts need nothing before it."""
    repaired: NDArray[np.bool_]
    """(P,) the packet has no pts of its own."""
    discard: NDArray[np.bool_]
    """(P,) needed for decoding at most, never shown (edit list)."""
    clock_marks: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    """(K, 2) wall clock that a recorder wrote into a subtitle track: microseconds of container
    time, Unix microseconds."""
    warnings: tuple[str, ...] = ()
    """What a person should know about the file."""

    def __post_init__(self) -> None:
        for name, dtype in (
            ("pts", np.int64),
            ("dts", np.int64),
            ("pos", np.int64),
            ("size", np.int64),
            ("keyframe", np.bool_),
            ("clean", np.bool_),
            ("repaired", np.bool_),
            ("discard", np.bool_),
        ):
            array = getattr(self, name)
            if array.shape != (len(self.pts),) or array.dtype != dtype:
                raise ValueError(f"{name=} is {array.shape} {array.dtype}")
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.pts)

    def times(self) -> VideoTimes:
        """Return what an input log's reader may want to know of the video."""
        pts = np.unique(self.pts[~self.discard])
        pts.flags.writeable = False
        return VideoTimes(pts=pts, time_base=self.time_base, clock_marks=self.clock_marks)

    def __repr__(self) -> str:
        return f"VideoIndex({self.source!r}, {self.codec}, {len(self)} packets)"


def corrupt(path: Path, place: str, found: str) -> CorruptVideo:
    """Build the error for a video that cannot be read at `place`."""
    return CorruptVideo(
        str(path),
        place,
        found,
        "a video that FFmpeg can read",
        "Play it in a video player; remux or record it again if it stops there too.",
    )


@contextmanager
def open_video(
    path: Path, file: SourceFile, *, hwaccel: HWAccel | None = None
) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open `file` and choose its video stream: the same one for the index and for the decoder.

    Args:
        hwaccel: what decodes in place of the CPU, `nvdec.accelerator()`.
    Raises:
        CorruptVideo: FFmpeg cannot open it, or has no decoder for it.
        MissingStream: there is no video stream in it.
    """
    try:
        container = av.open(
            file, mode="r", metadata_errors="replace", buffer_size=READ_BYTES, hwaccel=hwaccel
        )
    except (av.FFmpegError, ValueError, RuntimeError) as error:  # the last: not for `hwaccel`
        size = file.seek(0, 2)
        cause = f"{size} bytes that cannot be opened ({_reason(error)})"
        raise corrupt(path, "", cause if size else "an empty file") from error
    try:
        container.flags &= ~_GENERATE_PTS
        yield container, _video_stream(path, container)
    finally:
        container.close()


def _video_stream(path: Path, container: av.container.InputContainer) -> VideoStream:
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        kinds = ", ".join(stream.type for stream in container.streams) or "no stream at all"
        raise MissingStream(
            str(path),
            "",
            f"no video stream ({kinds})",
            "one video stream",
            "Record the screen too.",
        )
    best = container.streams.best("video")
    chosen = best if best in streams and isinstance(best, VideoStream) else streams[0]
    if chosen.codec_context is None:
        raise corrupt(path, f"stream {chosen.index}", "a codec without a decoder")
    return chosen


def _untimed(path: Path, num_packets: int) -> CorruptVideo:
    return CorruptVideo(
        str(path),
        "",
        f"{plural(num_packets, 'packet')} without any time, as in a raw stream",
        "a container that says when each picture is shown",
        "Remux it into mp4 or mkv, with the times at which it was recorded.",
    )


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def index_video(source: Path, *, on_progress: Callable[[], None] | None = None) -> VideoIndex:
    """Read `source` once: its packets and the sha256 of its bytes.

    A video that breaks off is indexed as far as it goes, with a warning.

    Args:
        source: a video file, or a folder of stills named by their time in microseconds.
        on_progress: called now and then while reading.
    Raises:
        MissingStream: no video in it, or it is not there.
        CorruptVideo: it cannot be opened, or holds no packet.
        SourceChanged: it changed while it was read.
    """
    if source.is_dir():
        return _index_stills(source, on_progress)
    try:
        file = SourceFile(source, hashing=True, on_read=on_progress)
    except FileNotFoundError as error:
        raise MissingStream(
            str(source), "", "no such file", "a video", "Put the video where it is looked for."
        ) from error
    with file, open_video(source, file) as (container, stream):
        table, marks, warnings = _read_packets(source, container, stream)
        worth = table.pop("worth")
        repaired = table["pts"] == NO_TIME
        if repaired.all() and (table["dts"] == NO_TIME).all():
            raise _untimed(source, len(repaired))
        if repaired.any():
            warnings.append(
                f"{plural(int(repaired.sum()), 'packet')} without a pts; it is interpolated"
            )
            table["pts"] = repair_pts(table["pts"], table["dts"])
        # Where no picture has a time they get theirs in the order in which they come: none may be
        # missing at a start.
        table["keyframe"] = worth == CLOSED if repaired.all() else worth != NOTHING
        table["clean"] = (worth == CLOSED) | (worth == OPEN)
        codec = stream.codec_context.codec.canonical_name
        missing = _missing_bytes(file)
        if missing > 0:
            warnings.append(f"the file is cut off: {missing} bytes are missing at its end")
        if codec not in UNIT_RULES:
            table["clean"] = _without_leading(table["pts"], table["keyframe"])
        return VideoIndex(
            source=str(source),
            digest=file.digest(),
            codec=codec,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            time_base=Fraction(stream.time_base or 0),
            clock_marks=marks,
            warnings=tuple(warnings),
            repaired=repaired,
            **table,
        )


def _read_packets(
    source: Path, container: av.container.InputContainer, stream: VideoStream
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], list[str]]:
    context = stream.codec_context
    marking = [s for s in container.streams.subtitles if s.codec_context.name in _MARK_CODECS]
    marks: list[tuple[int, int]] = []
    worth_of = key_reader(context.codec.canonical_name, context.extradata or b"")
    rows: list[tuple[int, int, int, int, int, bool]] = []
    warnings: list[str] = []
    damaged = mismarked = 0
    try:
        for packet in container.demux(stream, *marking):
            size = packet.size
            if not size:
                continue
            if packet.stream is not stream:
                marks += _clock_mark(packet) if len(marks) < _MAX_MARKS else ()
                continue
            pts, dts, pos, key = packet.pts, packet.dts, packet.pos, packet.is_keyframe
            damaged += packet.is_corrupt
            worth = worth_of(packet) if key else NOTHING
            mismarked += key and worth == NOTHING
            rows.append(
                (
                    NO_TIME if pts is None else pts,
                    NO_TIME if dts is None else dts,
                    -1 if pos is None else pos,
                    size,
                    worth,
                    packet.is_discard,
                )
            )
    except av.FFmpegError as error:
        if not rows:
            raise corrupt(source, "first packet", _reason(error)) from error
        warnings.append(
            f"the video breaks off after {plural(len(rows), 'packet')}: {_reason(error)}"
        )
    if not rows:
        raise corrupt(source, "", "a video stream without a picture")
    if mismarked:
        warnings.append(
            f"{NOTE}decoding cannot start at {plural(mismarked, 'packet')} marked as a keyframe;"
            " it starts before them"
        )
    if damaged:
        warnings.append(f"{plural(damaged, 'packet')} marked as damaged; the file may be cut off")
    names = ("pts", "dts", "pos", "size", "worth", "discard")
    kinds = (*(np.int64,) * 4, np.int8, np.bool_)
    columns = zip(*rows, strict=True)
    table: dict[str, NDArray[Any]] = {
        name: np.array(column, kind)
        for name, kind, column in zip(names, kinds, columns, strict=True)
    }
    return table, np.array(marks, np.int64).reshape(-1, 2), warnings


def _clock_mark(packet: av.packet.Packet[Any]) -> list[tuple[int, int]]:
    """Return the wall clock that a subtitle shows, if it shows one."""
    text = bytes(packet) if packet.size < 64 else b""
    if packet.pts is None or packet.time_base is None or not CLOCK_MARK.fullmatch(text.strip()):
        return []
    return [(round(packet.pts * packet.time_base * 1_000_000), round(int(text), -3) // 1000)]


def _missing_bytes(file: SourceFile) -> int:
    """Return how many bytes a Matroska file is shorter than it says; 0 for other formats.

    Source: RFC 8794 (EBML), RFC 9559 (Matroska): one header element, then one segment.
    """
    file.seek(0)
    head, at = file.read(4096), 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[at : at + 4] != name or len(head) < at + 12 or not head[at + 4]:
            return 0
        length = 9 - head[at + 4].bit_length()
        field = head[at + 4 : at + 4 + length]
        size = int.from_bytes(field, "big") ^ 1 << 7 * length
        if size == (1 << 7 * length) - 1:
            return 0  # unknown, as a live recorder writes it
        at += 4 + length + (size if name[0] == 0x1A else 0)
    return max(0, at + size - file.seek(0, 2))


def _without_leading(pts: NDArray[np.int64], keyframe: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark keyframes that no later packet of their GOP precedes in presentation."""
    clean = np.zeros(len(pts), np.bool_)
    keys = np.flatnonzero(keyframe)
    if len(keys):
        clean[keys] = np.minimum.reduceat(pts, keys) >= pts[keys]
    return clean


def still_paths(folder: Path) -> list[tuple[int, Path]]:
    """List the stills of `folder` as (time in microseconds, path), by time, then name."""
    matches = ((STILL_NAME.fullmatch(entry.name), entry) for entry in os.scandir(folder))
    found = [(int(match[1]), Path(entry)) for match, entry in matches if match and entry.is_file()]
    return sorted(found, key=lambda item: (item[0], item[1].name))


def _index_stills(folder: Path, on_progress: Callable[[], None] | None) -> VideoIndex:
    stills = still_paths(folder)
    if not stills:
        raise MissingStream(
            str(folder),
            "",
            "no still picture",
            "files named <microseconds>.png, .jpg or .npy",
            "Name each picture by its time in microseconds, or by its index with video.fps.",
        )
    total = hashlib.sha256()
    sizes = []
    for _, path in stills:
        with SourceFile(path, hashing=True, on_read=on_progress) as file:
            digest = file.digest()
            sizes.append(file.tell())
        total.update(f"{len(os.fsencode(path.name))}:".encode() + os.fsencode(path.name))
        total.update(bytes.fromhex(digest))
    if still_paths(folder) != stills:
        raise SourceChanged(
            str(folder), "", "other pictures", "those it began with", "Submit it again later."
        )
    codec, width, height = _first_size(stills)
    pts = np.array([time_us for time_us, _ in stills], np.int64)
    every, none = np.ones(len(pts), np.bool_), np.zeros(len(pts), np.bool_)
    return VideoIndex(
        source=str(folder),
        digest=total.hexdigest(),
        codec=codec,
        width=width,
        height=height,
        time_base=Fraction(1, 1_000_000),
        pts=pts,
        dts=pts,
        pos=np.full(len(pts), -1, np.int64),
        size=np.array(sizes, np.int64),
        keyframe=every,
        clean=every,
        repaired=none,
        discard=none,
    )


def read_npy(file: SourceFile) -> NDArray[np.uint8]:
    """Return the picture in a .npy file: (H, W, 3) RGB; gray is repeated, alpha is dropped.

    Raises:
        ValueError: it is no array of numpy's format, or no picture.
    """
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0
    shape, by_column, dtype = (
        read_header(file) if version == (1, 0) else np.lib.format.read_array_header_2_0(file)
    )
    sides = (*shape, 1)[:3] if len(shape) == 2 else shape
    if dtype != np.uint8 or len(sides) != 3 or sides[2] not in (1, 3, 4) or 0 in shape:
        raise ValueError(f"an array of {dtype} {shape}, which is no picture")
    data = file.read(math.prod(shape))
    if len(data) < math.prod(shape):
        raise ValueError("an array that is cut off")
    picture = np.frombuffer(data, np.uint8).reshape(sides, order="F" if by_column else "C")
    return np.ascontiguousarray(np.broadcast_to(picture[..., :3], (*sides[:2], 3)))


def _first_size(stills: list[tuple[int, Path]]) -> tuple[str, int, int]:
    """Return codec, width and height of the first still whose header can be read."""
    for _, path in stills:
        with SourceFile(path) as file:
            try:
                if path.suffix.lower() == ".npy":
                    return "npy", *reversed(read_npy(file).shape[:2])
                with av.open(file, mode="r") as container:
                    context = container.streams.video[0].codec_context
                    if context.width and context.height:
                        return context.codec.canonical_name, context.width, context.height
            except (av.FFmpegError, IndexError, ValueError):
                continue
    raise corrupt(stills[0][1].parent, "", f"{len(stills)} pictures, none of them readable")
