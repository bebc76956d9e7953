"""NVDEC, the video decoder of NVIDIA GPUs, under the same FFmpeg. Knows no files and no chunks.

FFmpeg reads the stream as ever, its parameters, times and order; NVDEC decodes the pictures, which
are copied to the host's memory as NV12 or P010. Here they get the planes that a CPU's decoder
gives, so that all that follows is the same (docs/decisions/gpu.md).

NVDEC has to prove itself in each process before it is used, and a picture is taken for its work
by a format that no CPU's decoder of these codecs has: nobody else's is ever called NVDEC's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from playmill.errors import DecoderUnavailable

CODECS = frozenset({"h264", "hevc", "vp8", "vp9"})
"""By their standards a sound stream has one picture, to the bit. So has AV1, but what PyAV decodes
it with, dav1d, knows no NVDEC."""
_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""What NVDEC gives of 4:2:0 pictures of 8 and 10 bits, and a CPU's decoder. Of others (4:4:4, more
bits) both give the same formats, or NVDEC nothing: those are left to the CPU."""
_LIBRARIES = {
    "libcuda.so.1": "Install the NVIDIA driver, or take --decoder cpu.",
    "libnvcuvid.so.1": (
        "It belongs to the NVIDIA driver; a container has it where NVIDIA_DRIVER_CAPABILITIES"
        " holds `video`. Or take --decoder cpu."
    ),
}

Decode: TypeAlias = "Callable[[av.Packet[Any] | None], list[VideoFrame]]"


class NotByNvdec(Exception):
    """A picture that NVDEC did not decode, or that cannot be told from one."""


def decoding(context: VideoCodecContext) -> Decode:
    """Return `context.decode` for one that was opened with `accelerator()`.

    Its pictures have the planes of a CPU's decoder, with all that stands beside them: times, marks
    of damage, colors, orientation.

    Raises:
        NotByNvdec: NVDEC is not used for this codec; by what is returned, also: the picture is not
            known to be its work.
    """
    if not context.is_hwaccel or context.codec.canonical_name not in CODECS:
        raise NotByNvdec(f"{context.codec.canonical_name} is not decoded on NVDEC")
    reformatter = VideoReformatter()

    def whole(picture: VideoFrame) -> VideoFrame:
        # Odd sides come rounded up, and pictures cropped on the left or at the top with that part.
        if (picture.width, picture.height) != (context.width, context.height):
            size = f"{picture.width} x {picture.height}"
            raise NotByNvdec(f"a picture of {size} in place of {context.width} x {context.height}")
        return planar(picture, reformatter)

    return lambda packet: [whole(picture) for picture in context.decode(packet)]


def planar(picture: VideoFrame, reformatter: VideoReformatter) -> VideoFrame:
    """Return NVDEC's picture in the planes of a CPU's decoder: values are moved, none is changed.

    Raises:
        NotByNvdec: it is not known to be NVDEC's.
    """
    layout = _PLANAR.get(picture.format.name)
    if layout is None:
        raise NotByNvdec(f"a picture in {picture.format.name}")
    return reformatter.reformat(picture, format=layout, threads=1)


@cache
def accelerator() -> HWAccel:
    """Return what `av.open` takes to decode on NVDEC, once that has proved itself.

    A short sample is decoded, by NVDEC and by the CPU: every bit has to be the same, and what is
    said of the pictures. The first time this takes as long as making a CUDA context does.

    Raises:
        DecoderUnavailable: there is no NVDEC here, or it gives other pictures.
    """
    _check_libraries()
    try:
        packets = sample()
        expected = _arrays(CodecContext.create("h264", "r").decode, packets)
        _hold_device()
        found = _arrays(decoding(_on_nvdec()), packets)
    except (av.FFmpegError, NotByNvdec) as error:
        raise DecoderUnavailable(
            "nvdec",
            f"it decodes nothing here ({getattr(error, 'strerror', None) or error})",
            "Look whether nvidia-smi works and shows free memory, or take --decoder cpu.",
        ) from error
    if found != expected:
        same = sum(one == other for one, other in zip(found, expected, strict=False))
        raise DecoderUnavailable(
            "nvdec",
            f"of a sample, {same} of {len(expected)} pictures are those that the CPU decodes",
            "Update the NVIDIA driver and PyAV, or take --decoder cpu.",
        )
    return _ACCELERATOR


_ACCELERATOR = HWAccel("cuda", allow_software_fallback=False, options={"primary_ctx": "1"})
"""The GPU's primary context is one for the whole process, however many videos are opened."""


def _on_nvdec() -> VideoCodecContext:
    """Return a decoder of H.264; raise av.FFmpegError where there is no CUDA device."""
    return CodecContext.create("h264", "r", hwaccel=_ACCELERATOR)


@cache
def _hold_device() -> VideoCodecContext:
    """Keep the CUDA context for as long as the process lives, not only while a video is open."""
    return _on_nvdec()


def _check_libraries() -> None:
    """Raise DecoderUnavailable where the driver lacks a library: FFmpeg does not say which."""
    for name, action in _LIBRARIES.items():
        try:
            ctypes.CDLL(name)
        except OSError as error:
            raise DecoderUnavailable("nvdec", f"{name} cannot be loaded", action) from error


def sample() -> list[Any]:
    """Return the packets of a short H.264 stream: B-frames, two IDR pictures, colors that it tags.

    Their pts are the order in which they are decoded, which serves to name a picture.
    """
    parser = CodecContext.create("h264", "r")
    stream = Path(__file__).with_name("sample.h264").read_bytes()
    packets = [*parser.parse(stream), *parser.parse(None)]
    for number, packet in enumerate(packets):
        packet.pts = number
    return packets


def _arrays(decode: Decode, packets: Iterable[Any]) -> list[tuple[object, ...]]:
    """Return what is said of all pictures, and their planes.

    PyAV has to copy what FFmpeg says of a picture, as not every version does: what it copies with
    these it copies with all.
    """
    names = ("pts", "key_frame", "colorspace", "color_range")
    pictures = [picture for packet in (*packets, None) for picture in decode(packet)]
    return [
        (*(getattr(picture, name) for name in names), picture.to_ndarray().tobytes())
        for picture in pictures
    ]
