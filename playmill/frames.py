"""Decode one chunk, on the CPU or on NVDEC. The only decoder; knows no queue, no features.

A hung or crashing decoder takes its process with it: see `decode_process`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import av
import av.container
import av.packet
import numpy as np
from av.codec.context import ThreadType
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from playmill.config import Decoder
from playmill.decoding import nvdec
from playmill.decoding.missing_pts import NO_TIME
from playmill.decoding.pictures import GrayConverter, PictureReader, Size
from playmill.decoding.source_file import SourceFile
from playmill.errors import CorruptVideo, SourceChanged
from playmill.plan import Chunk
from playmill.video_index import corrupt, open_video, read_npy, still_paths

_EARLIER_S = (0, 2, 20)
"""How much earlier to seek, if seeking to the planned packet leads past it."""
_DECODER_ERRORS = (av.FFmpegError, EOFError, StopIteration, nvdec.NotByNvdec)
_STILL_ERRORS = (*_DECODER_ERRORS, ValueError)

_MAX_HELD = 8  # pictures without any time that wait for one that has it

_Packet: TypeAlias = "av.packet.Packet[VideoStream]"
_Timed = tuple[int | None, bool, bool, VideoFrame]
"""pts, whether it is made up, whether the picture is damaged, picture."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frame:
    """One decoded picture."""

    pts: int
    """Ticks of the stream's time base."""
    images: tuple[NDArray[np.uint8], ...]
    """(H, W, 3) RGB each, one for every size asked for: at that size, or whole where scaling is
    left to the caller (then the same array each time); see `pictures.PictureReader`."""
    glance: NDArray[np.uint8]
    """*motion.PICTURE_SIZE gray: enough to see how the picture moves."""
    repaired: bool = False
    """Its packet has no pts; this one is made up."""
    damaged: bool = False
    """The decoder reported errors in it, or in a picture before it that it may be built upon."""
    decoder: Decoder = "cpu"
    """What decoded it, which need not be what was asked for."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """Return the first of `images`."""
        return self.images[0]


def decoder_version(decoder: Decoder = "cpu") -> str:
    """Return what decodes, for the record: the binding and the FFmpeg library under it."""
    libavcodec = ".".join(str(number) for number in av.library_versions["libavcodec"])
    version = f"pyav {av.__version__}, libavcodec {libavcodec}"
    return version if decoder == "cpu" else f"{version}, {decoder}"


def decode_chunk(
    source: Path,
    chunk: Chunk,
    *,
    sizes: Sequence[Size | None] = (None,),
    tolerant: bool = False,
    num_threads: int = 2,
    decoder: Decoder = "cpu",
    on_progress: Callable[[], None] | None = None,
) -> Iterator[Frame]:
    """Decode the frames of `chunk`, in presentation order, each pts once (the first wins).

    Of a sound stream these are the very frames that decoding the whole gives, for any number of
    threads. A chunk may come out shorter than `chunk.num_frames` without an error: what is missing
    after damage cannot always be told from what was never there. Compare, and decode once more
    with `tolerant`.

    Where NVDEC gives not a single frame of the chunk, as of codecs and formats that it does not
    know, the CPU decodes it: each frame says which it was.

    Args:
        sizes: (height, width) of the pictures wanted of each frame; None: as decoded.
        tolerant: go on after errors, on one thread of the CPU, and give what can be decoded.
        num_threads: threads of the CPU's decoder.
        decoder: what is to decode; still pictures the CPU decodes.
        on_progress: called at every read and every packet.
    Raises:
        CorruptVideo: a frame is damaged (unless `tolerant`), or the file cannot be opened.
        SourceChanged: the file is not the one that was planned.
        DecoderUnavailable: there is no NVDEC here.
    """
    read = PictureReader(sizes)
    if source.is_dir():
        yield from _decode_stills(source, chunk, read, tolerant, on_progress)
        return
    if decoder == "nvdec" and not tolerant:
        hwaccel, begun = nvdec.accelerator(), False
        try:
            for frame in _decode(source, chunk, read, on_progress, hwaccel=hwaccel):
                begun = True
                yield replace(frame, decoder=decoder)
        except CorruptVideo:
            if begun:
                raise
        if begun:
            return
    yield from _decode(source, chunk, read, on_progress, tolerant=tolerant, num_threads=num_threads)


def _decode(
    source: Path,
    chunk: Chunk,
    read: PictureReader,
    on_progress: Callable[[], None] | None,
    *,
    tolerant: bool = False,
    num_threads: int = 1,
    hwaccel: HWAccel | None = None,
) -> Iterator[Frame]:
    """Decode the frames of `chunk` with one decoder; see `decode_chunk`."""
    for seeking in (True, False):
        with (
            SourceFile(source, on_read=on_progress) as file,
            open_video(source, file, hwaccel=hwaccel) as (container, stream),
        ):
            packets = _packets(source, container, stream, chunk, seeking=seeking)
            if packets is None:
                continue
            context = stream.codec_context
            threaded = not tolerant and num_threads > 1
            context.thread_type = ThreadType.AUTO if threaded else ThreadType.SLICE
            context.thread_count = num_threads if threaded else 1
            try:
                decode = context.decode if hwaccel is None else nvdec.decoding(context)
            except nvdec.NotByNvdec as error:
                raise corrupt(source, "", str(error)) from error
            pictures = _Decoder(source, decode, chunk, tolerant).pictures(packets, on_progress)
            yield from _checked(source, chunk, pictures, read, tolerant)
            return


def _checked(
    source: Path, chunk: Chunk, pictures: Iterable[_Timed], read: PictureReader, tolerant: bool
) -> Iterator[Frame]:
    glance = GrayConverter()
    for pts, made_up, damaged, picture in _in_order(pictures, chunk):
        if damaged and not tolerant:
            raise corrupt(source, f"pts {pts}", "a picture with decoding errors")
        yield Frame(
            pts=pts,
            images=read(picture),
            glance=glance(picture),
            repaired=made_up,
            damaged=damaged,
        )


class _Decoder:
    """Feeds packets and returns pictures as (pts or None, made up, picture), in output order."""

    def __init__(self, source: Path, decode: nvdec.Decode, chunk: Chunk, tolerant: bool) -> None:
        self._source, self._decode, self._chunk = source, decode, chunk
        self._tolerant = tolerant
        self._repairs = dict(chunk.repairs)
        self._repaired = set(self._repairs.values())
        self._fed: list[int] = []
        self._suspect_since: int | None = None

    def pictures(
        self,
        packets: Iterable[tuple[int, _Packet]],
        on_progress: Callable[[], None] | None,
    ) -> Iterator[_Timed]:
        """Decode `packets`, then what the decoder still holds."""
        for ordinal, packet in packets:
            if on_progress is not None:
                on_progress()
            made_up = self._repairs.get(ordinal)
            if made_up is not None:
                packet.pts = made_up
                heapq.heappush(self._fed, made_up)
            try:
                pictures = self._decode(packet)
            except _DECODER_ERRORS as error:
                self._judge(ordinal, packet.pts, error)
                continue
            for picture in pictures:
                yield self._timed(picture)
        try:
            rest = self._decode(None)
        except _DECODER_ERRORS as error:
            self._judge(self._chunk.stop_packet, self._chunk.stop_pts - 1, error)
            return
        for picture in rest:
            yield self._timed(picture)

    def _judge(self, ordinal: int, pts: int | None, error: BaseException) -> None:
        """Raise for damage that matters: a pre-roll only serves the frames after it."""
        if not self._tolerant and ordinal >= self._chunk.key_packet:
            found = getattr(error, "strerror", None) or error
            raise corrupt(self._source, f"pts {pts}", f"a decoder error ({found})") from error
        if ordinal >= self._chunk.key_packet:
            self._suspect_since = pts if pts is not None else self._chunk.stop_pts
        if pts in self._fed:
            self._fed.remove(pts)
            heapq.heapify(self._fed)

    def _timed(self, picture: VideoFrame) -> _Timed:
        # Made-up times are handed to pictures in the order in which the decoder shows them: where
        # a stream has no pts at all, that order is known to nobody else.
        made_up = picture.pts is None or picture.pts in self._repaired
        pts = picture.pts
        if made_up:
            pts = heapq.heappop(self._fed) if self._fed else None
        return pts, made_up, self._damaged(picture, pts), picture

    def _damaged(self, picture: VideoFrame, pts: int | None) -> bool:
        """Tell whether a picture has errors, or may be built upon one that has."""
        if picture.is_corrupt:
            self._suspect_since = pts if pts is not None else self._chunk.start_pts
        elif picture.key_frame and pts is not None and self._suspect_since is not None:
            self._suspect_since = None if pts > self._suspect_since else self._suspect_since
        return self._suspect_since is not None


def _in_order(
    pictures: Iterable[_Timed], chunk: Chunk
) -> Iterator[tuple[int, bool, bool, VideoFrame]]:
    """Keep the pictures of the span, with strictly rising pts; fit made-up ones in between."""
    last = NO_TIME
    # A made-up pts waits for the next picture's: only then is it known whether it fits.
    for (pts, made_up, damaged, picture), following in _with_next(pictures, chunk.stop_pts):
        fitted = _fit(pts, last, following) if made_up else pts
        if fitted is not None and fitted > last:
            last = fitted
            if chunk.start_pts <= fitted < chunk.stop_pts:
                yield fitted, made_up, damaged, picture


def _with_next(pictures: Iterable[_Timed], end: int) -> Iterator[tuple[_Timed, int]]:
    """Yield each picture with the pts of the next one, for made-up ones; `end` after the last."""
    held: list[_Timed] = []
    for timed in pictures:
        pts, made_up = timed[:2]
        if held and (pts is not None or len(held) >= _MAX_HELD):
            yield from ((waiting, end if pts is None else pts) for waiting in held)
            held.clear()
        if made_up:
            held.append(timed)
        else:
            yield timed, end
    # The last may belong to the span behind this one: a pts there is no reason to move it.
    for waiting in held:
        yield waiting, end if waiting[0] is None else max(end, waiting[0] + 1)


def _fit(pts: int | None, last: int, following: int) -> int | None:
    """Return a made-up pts between its neighbours; None if there is no room."""
    if pts is not None and last < pts < following:
        return pts
    if last == NO_TIME:
        return pts if pts is not None else following - 1
    between = (last + following) // 2
    return between if last < between < following else None


def _packets(
    source: Path,
    container: av.container.InputContainer,
    stream: VideoStream,
    chunk: Chunk,
    *,
    seeking: bool,
) -> Iterator[tuple[int, _Packet]] | None:
    """Return (ordinal, packet) of the packets that `chunk` feeds; None if seeking misses them.

    Seeking is a hint: the packets that come are compared with the one that was planned.
    """
    if not seeking or chunk.first_packet == 0:
        skipped = itertools.islice(_sized(container, stream), chunk.first_packet, None)
        found = _from_planned(skipped, chunk)
        if found is None:
            raise SourceChanged(
                str(source),
                f"packet {chunk.first_packet}",
                "another packet, or none",
                f"pts {chunk.seek_pts}, {chunk.seek_size} bytes, as when it was planned",
                "Submit the recording again.",
            )
    else:
        found = _sought(container, stream, chunk)
        if found is None:
            return None
    return zip(range(chunk.first_packet, chunk.stop_packet), found, strict=False)


def _sought(
    container: av.container.InputContainer, stream: VideoStream, chunk: Chunk
) -> Iterator[_Packet] | None:
    if chunk.seek_pos < 0:
        return None
    times = [time for time in (chunk.seek_pts, chunk.seek_dts) if time != NO_TIME]
    ticks = [int(earlier_s / (stream.time_base or 1)) for earlier_s in _EARLIER_S]
    for target in (max(times), *(min(times) - earlier for earlier in ticks)):
        try:
            container.seek(target, stream=stream)
        except av.FFmpegError:
            continue
        found = _from_planned(_sized(container, stream), chunk)
        if found is not None:
            return found
    return None


def _sized(container: av.container.InputContainer, stream: VideoStream) -> Iterator[_Packet]:
    return (packet for packet in container.demux(stream) if packet.size)


def _from_planned(packets: Iterator[_Packet], chunk: Chunk) -> Iterator[_Packet] | None:
    """Skip to the packet that the plan names; None if it does not come.

    Parameters that change on the way are announced once, beside a packet: if that one is skipped,
    they go to the first one fed.
    """
    parameters = None
    for packet in packets:
        pos = -1 if packet.pos is None else packet.pos
        if (pos, packet.size) == (chunk.seek_pos, chunk.seek_size):
            if not _has_planned_time(packet, chunk):
                return None
            if parameters is not None and not packet.has_sidedata("new_extradata"):
                packet.set_sidedata(parameters)
            return itertools.chain((packet,), packets)
        if pos > chunk.seek_pos >= 0 and packet.is_keyframe:
            return None
        if packet.has_sidedata("new_extradata"):
            parameters = packet.get_sidedata("new_extradata")
    return None


def _has_planned_time(packet: _Packet, chunk: Chunk) -> bool:
    """Tell whether the chunk's first packet has the time that it had when the video was indexed.

    Where a format stores no times, or clocks that wrap, FFmpeg counts on from where it began to
    read: after seeking the same packet has another time, and so have those behind it.
    """
    if chunk.first_packet in dict(chunk.repairs):
        dts = NO_TIME if packet.dts is None else packet.dts
        return packet.pts is None and dts == chunk.seek_dts
    return packet.pts == chunk.seek_pts


def _decode_stills(
    folder: Path,
    chunk: Chunk,
    read: PictureReader,
    tolerant: bool,
    on_progress: Callable[[], None] | None,
) -> Iterator[Frame]:
    glance, last = GrayConverter(), NO_TIME
    for time_us, path in still_paths(folder)[chunk.first_packet : chunk.stop_packet]:
        if time_us == last:
            continue
        try:
            picture = _decode_still(path, on_progress)
        except _STILL_ERRORS as error:
            if not tolerant:
                raise corrupt(path, f"pts {time_us}", f"no readable picture ({error})") from error
            continue
        last = time_us
        if picture.is_corrupt and not tolerant:
            raise corrupt(path, f"pts {time_us}", "a picture with decoding errors")
        yield Frame(
            pts=time_us,
            images=read(picture),
            glance=glance(picture),
            damaged=picture.is_corrupt,
        )


def _decode_still(path: Path, on_progress: Callable[[], None] | None) -> VideoFrame:
    with SourceFile(path, on_read=on_progress) as file:
        if path.suffix.lower() == ".npy":
            return VideoFrame.from_ndarray(read_npy(file), format="rgb24")
        with av.open(file, mode="r") as container:
            return next(container.decode(video=0))
