"""Write one picture as a small JPEG. Knows no dataset and no page."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

_QUALITY = 4
"""Quantizer of the encoder: 2 is best, 31 is worst."""
_MIN_SIDE = 16


def encode(image: NDArray[np.uint8], *, max_side: int) -> bytes:
    """Return (H, W, 3) RGB as JPEG, made smaller where a side is longer than `max_side`."""
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    width, height = (max(round(side * scale), min(side, _MIN_SIDE)) for side in (width, height))
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
        width,
        height,
        format="yuvj420p",
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.JPEG,
        interpolation="AREA",
    )
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height = width, height
    context.pix_fmt, context.time_base = "yuvj420p", Fraction(1)
    context.qmin = context.qmax = _QUALITY
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))
