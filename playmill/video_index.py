"""Index a video's packets by demuxing alone. Decodes nothing, cuts nothing."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.stream
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from playmill.errors import CorruptVideo, MissingStream, SourceChanged

NO_TIME = int(np.iinfo(np.int64).min)
"""Stands for a missing dts, or a missing pts before it is repaired."""
STILL_NAME = re.compile(r"([0-9]{1,18})\.(png|jpg|jpeg)", re.IGNORECASE | re.ASCII)
"""Name of a still picture: its time in microseconds."""

_READ_BYTES = 1 << 20
_GENERATE_PTS = 0x0001  # AVFMT_FLAG_GENPTS, which PyAV sets: made-up times would go unflagged
_REORDER_PACKETS = 16  # no codec delays a picture by more


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

    def __repr__(self) -> str:
        return f"VideoIndex({self.source!r}, {self.codec}, {len(self)} packets)"


class SourceFile(io.RawIOBase):
    """A file for FFmpeg to read: its name is never parsed, its bytes can be hashed on the way.

    Bytes are hashed once each and in order: those that FFmpeg reads in order at once, what it
    jumped over in `digest`. `on_read` is called at every read: the sign of life of a long job.
    """

    def __init__(
        self,
        path: Path,
        *,
        hashing: bool = False,
        on_read: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._path = path
        self._before = self._stamp()
        self._hash = hashlib.sha256() if hashing else None
        self._hashed = 0
        self._on_read = on_read

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: the file can be sought in."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        start = self._file.tell()
        data: bytes = self._file.read(size) or b""
        if self._hash is not None and start <= self._hashed < start + len(data):
            self._hash.update(memoryview(data)[self._hashed - start :])
            self._hashed = start + len(data)
        if self._on_read is not None:
            self._on_read()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def digest(self) -> str:
        """Return the sha256 of all bytes; reads those that were jumped over.

        Raises:
            SourceChanged: the file's size or time of change is not what it was when opened.
        """
        self.seek(self._hashed)
        while self.read(_READ_BYTES):
            pass
        after = self._stamp()
        if after != self._before or self._hashed != self._before[0] or self._hash is None:
            raise SourceChanged(
                str(self._path),
                "",
                f"{after[0]} bytes, changed at {after[1]} ns",
                f"{self._before[0]} bytes, changed at {self._before[1]} ns, as when it was opened",
                "Wait until the recorder has closed the file, then submit it again.",
            )
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


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
    path: Path, file: SourceFile
) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open `file` and choose its video stream: the same one for the index and for the decoder.

    Raises:
        CorruptVideo: FFmpeg cannot open it, or has no decoder for it.
        MissingStream: there is no video stream in it.
    """
    try:
        container = av.open(file, mode="r", metadata_errors="replace", buffer_size=_READ_BYTES)
    except (av.FFmpegError, ValueError) as error:
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
        table, warnings = _read_packets(source, container, stream)
        repaired = table["pts"] == NO_TIME
        if repaired.any():
            warnings.append(f"{int(repaired.sum())} packets have no pts; theirs are interpolated")
            table["pts"] = repair_pts(table["pts"], table["dts"])
        codec = stream.codec_context.codec.canonical_name
        if codec not in _UNIT_RULES:
            table["clean"] = _without_leading(table["pts"], table["keyframe"])
        return VideoIndex(
            source=str(source),
            digest=file.digest(),
            codec=codec,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            time_base=Fraction(stream.time_base or 0),
            warnings=tuple(warnings),
            repaired=repaired,
            **table,
        )


def _read_packets(
    source: Path, container: av.container.InputContainer, stream: VideoStream
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    worth_of = _key_reader(stream)
    rows: list[tuple[int, int, int, int, bool, bool, bool]] = []
    warnings: list[str] = []
    damaged = mismarked = 0
    last_key = 0
    try:
        for packet in container.demux(stream):
            size = packet.size
            if not size:
                continue
            pts, dts, pos, key = packet.pts, packet.dts, packet.pos, packet.is_keyframe
            damaged += packet.is_corrupt
            worth = worth_of(packet) if key else -1
            if key and (worth < 0 or worth > 1 + len(rows) - last_key):
                mismarked, key = mismarked + 1, False
            last_key = len(rows) if key else last_key
            rows.append(
                (
                    NO_TIME if pts is None else pts,
                    NO_TIME if dts is None else dts,
                    -1 if pos is None else pos,
                    size,
                    key,
                    worth == 0,
                    packet.is_discard,
                )
            )
    except av.FFmpegError as error:
        if not rows:
            raise corrupt(source, "first packet", _reason(error)) from error
        warnings.append(f"the video breaks off after {len(rows)} packets: {_reason(error)}")
    if not rows:
        raise corrupt(source, "", "a video stream without a picture")
    if mismarked:
        warnings.append(f"{mismarked} packets marked as keyframes are none to start decoding at")
    if damaged:
        warnings.append(f"{damaged} packets are marked as damaged; the file may be cut off")
    names = ("pts", "dts", "pos", "size", "keyframe", "clean", "discard")
    kinds = (np.int64, np.int64, np.int64, np.int64, np.bool_, np.bool_, np.bool_)
    columns = zip(*rows, strict=True)
    return {
        name: np.array(column, kind)
        for name, kind, column in zip(names, kinds, columns, strict=True)
    }, warnings


def _without_leading(pts: NDArray[np.int64], keyframe: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark keyframes that no later packet of their GOP precedes in presentation."""
    clean = np.zeros(len(pts), np.bool_)
    keys = np.flatnonzero(keyframe)
    if len(keys):
        clean[keys] = np.minimum.reduceat(pts, keys) >= pts[keys]
    return clean


@dataclass(frozen=True, kw_only=True, slots=True)
class _UnitRule:
    """How a codec's units (NAL units) tell whether decoding may start at a packet."""

    kind: Callable[[int], int]
    """Type of a unit, from its first byte."""
    slices: range
    """Types that hold picture data."""
    clean: range
    """Types of slices that need nothing before them."""
    recovery: int
    """Type of the messages that can announce a recovery point; -1: those are of no use."""
    length_at: int
    """Where in the container's parameters the size of the units' length stands."""


# A recovery point (H.264 open GOP, intra refresh) counts as a keyframe that needs a pre-roll.
# FFmpeg's HEVC decoder starts at none; open GOPs have a CRA there, which is clean.
_UNIT_RULES = {
    "h264": _UnitRule(
        kind=lambda head: head & 0x1F,
        slices=range(1, 6),
        clean=range(5, 6),
        recovery=6,
        length_at=4,
    ),
    "hevc": _UnitRule(
        kind=lambda head: head >> 1 & 0x3F,
        slices=range(32),
        clean=range(16, 22),
        recovery=-1,
        length_at=21,
    ),
}


def _key_reader(stream: VideoStream) -> Callable[[Any], int]:
    """Return the function that tells what a packet marked as a keyframe is worth.

    0: decoding may start at it; n > 0: frames are right from n - 1 packets after it on, if it is
    reached from before; -1: it is no keyframe (some recorders mark every packet as one).

    Source: ISO/IEC 14496-15 (length-prefixed units); ITU-T H.264 and H.265, annex B (start codes).
    """
    rule = _UNIT_RULES.get(stream.codec_context.codec.canonical_name)
    if rule is None:
        return lambda packet: 0
    parameters = stream.codec_context.extradata or b""
    prefixed = len(parameters) > rule.length_at and parameters[0] == 1
    length_bytes = (parameters[rule.length_at] & 3) + 1 if prefixed else 0

    def worth(packet: Any) -> int:
        data = bytes(packet)
        recovery = -1
        for at in _prefixed_units(data, length_bytes) if prefixed else _annex_b_units(data):
            kind = rule.kind(data[at])
            if kind in rule.slices:
                return 0 if kind in rule.clean else recovery
            if kind == rule.recovery:
                recovery = max(recovery, _recovery_point(data, at + 1))
        return -1

    return worth


def _recovery_point(data: bytes, at: int) -> int:
    """Return 1 + recovery_frame_cnt of the supplemental message at `at`; -1 if it has none.

    Source: ITU-T H.264, 7.3.2.3 (messages), D.1.8 (recovery point), 9.1 (Exp-Golomb code).
    """
    while at + 2 < len(data) and data[at] != 0x80:
        kind, at = _message_number(data, at)
        length, at = _message_number(data, at)
        if kind == 6:
            bits = int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "big")
            zeros = 32 - bits.bit_length()
            return bits >> (31 - 2 * zeros) if zeros < 16 else 1 << 16
        at += length
    return -1


def _message_number(data: bytes, at: int) -> tuple[int, int]:
    total = 0
    while at < len(data) and data[at] == 0xFF:
        total, at = total + 0xFF, at + 1
    return (total + data[at], at + 1) if at < len(data) else (total, at)


def _prefixed_units(data: bytes, length_bytes: int) -> Iterator[int]:
    """Yield where each unit begins, behind its length."""
    at = 0
    while at + length_bytes < len(data):
        yield at + length_bytes
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")


def _annex_b_units(data: bytes) -> Iterator[int]:
    """Yield where each unit begins, behind its start code."""
    return (match.end() for match in re.finditer(rb"\x00\x00\x01(?=.)", data, re.DOTALL))


def repair_pts(pts: NDArray[np.int64], dts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give every packet a pts.

    AVI stores no pts. Where FFmpeg knows the B-frames' pts, each other picture is shown when the
    next one like it is decoded. Where it knows none, packets get their dts, and the decoder's
    order decides which picture has which. A single missing pts goes where its neighbours in
    presentation order leave most room.

    Args:
        pts: (P,) decode order, NO_TIME where missing.
        dts: (P,) decode order, NO_TIME where missing.
    Returns:
        (P,) without NO_TIME.
    """
    missing, timed = pts == NO_TIME, dts != NO_TIME
    known = dts[timed] if timed.any() else pts[~missing]
    gaps = np.diff(np.unique(known))
    step = int(np.median(gaps)) if len(gaps) else 1
    repaired = pts.copy()
    holes = np.flatnonzero(missing)
    if timed.all() and bool((pts[~missing] == dts[~missing]).all()):
        if not missing.all():
            repaired[holes[:-1]] = dts[holes[1:]]
            repaired[holes[-1]] = int(dts.max()) + step
        else:
            repaired[holes] = dts[holes]
        return repaired
    if missing.all():
        filled = np.where(timed, dts, int(known.min()) if len(known) else 0)
        late = np.maximum.accumulate(filled - step * np.arange(len(dts)))
        return np.asarray(late + step * np.arange(len(dts)), np.int64)
    for hole in holes.tolist():
        repaired[hole] = _roomiest(repaired, hole, step)
    return repaired


def _roomiest(pts: NDArray[np.int64], hole: int, step: int) -> int:
    near = pts[max(0, hole - _REORDER_PACKETS) : hole + _REORDER_PACKETS + 1]
    times = np.unique(near[near != NO_TIME])
    if not len(times):
        before = pts[:hole][pts[:hole] != NO_TIME]
        return int(before.max()) + step if len(before) else 0
    gaps = np.diff(times)
    if not len(gaps) or (hole >= len(pts) - 1 and int(gaps.max()) < 2 * step):
        return int(times[-1]) + step
    widest = int(np.argmax(gaps))
    return int(times[widest] + times[widest + 1]) // 2


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
            "files named <microseconds>.png or .jpg",
            "Name each picture by its time in microseconds.",
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


def _first_size(stills: list[tuple[int, Path]]) -> tuple[str, int, int]:
    """Return codec, width and height of the first still whose header can be read."""
    for _, path in stills:
        with SourceFile(path) as file:
            try:
                with av.open(file, mode="r") as container:
                    context = container.streams.video[0].codec_context
                    if context.width and context.height:
                        return context.codec.canonical_name, context.width, context.height
            except (av.FFmpegError, IndexError, ValueError):
                continue
    raise corrupt(stills[0][1].parent, "", f"{len(stills)} pictures, none of them readable")
