"""Decoded pictures as upright RGB, whole or scaled. Knows pixel formats, no streams and no times.

Scaling a whole RGB picture costs more than decoding it. Where a picture shrinks by much, its
planes are scaled as they are, Y, U and V each with an antialiased triangle filter, and only the
small result is converted to RGB (docs/decisions/scaling.md has the figures).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from playmill.decoding.motion import PICTURE_SIZE
from playmill.decoding.orientation import OrientationReader

Size: TypeAlias = tuple[int, int]
"""(height, width), pixels."""

MIN_REDUCTION = 8
"""Pixels of the source for one of the target, from which on planes are scaled.

Below it the reference path costs little, and the features of what is scaled as planes differ more
from it: fewer pixels to a mean leave more of the converters' rounding.
"""
_DEPTHS = ("", "9", "10", "12")
PLANAR_FORMATS = frozenset(
    {"gray", "nv12", "nv21", "nv16", "nv24", "p010le", "p210le"}
    | {f"yuv{kind}p{bits}{'le' if bits else ''}" for kind in (420, 422, 444) for bits in _DEPTHS}
    | {f"yuvj{kind}p" for kind in (420, 422, 444)}
    | {f"gray{bits}le" for bits in _DEPTHS if bits}
)
"""Pixel formats whose planes are scaled; every other goes through RGB at its full size."""
_SCALING = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


class PictureReader:
    """Gives a decoded picture as RGB at the sizes asked for; keeps the conversions' tables.

    Args:
        sizes: one for each array that is wanted; None: as decoded.
    """

    def __init__(self, sizes: Sequence[Size | None] = (None,)) -> None:
        self._sizes = tuple(sizes)
        self._orientation = OrientationReader()
        self._whole = VideoReformatter()
        self._scalers: defaultdict[Size, VideoReformatter] = defaultdict(VideoReformatter)

    def __call__(self, picture: VideoFrame) -> tuple[NDArray[np.uint8], ...]:
        """Return (H, W, 3) uint8 RGB for each size, in the stream's color matrix and range.

        Upright: turned as players show it. Alpha is dropped. Where scaling the planes is not worth
        it, or not known to be faithful, an entry is the whole picture, the same array each time,
        for the caller to resize.
        """
        turn = self._orientation(picture)
        whole: NDArray[np.uint8] | None = None
        arrays = []
        for size in self._sizes:
            stored = None if size is None else turn.stored(size)
            if stored is not None and scales_planes(picture, stored):
                arrays.append(turn.shown(self._scaled(picture, stored)))
                continue
            if whole is None:
                whole = turn.shown(self._rgb(picture))
            arrays.append(whole)
        return tuple(arrays)

    def _rgb(self, picture: VideoFrame) -> NDArray[np.uint8]:
        rgb = self._whole.reformat(
            picture, format="rgb24", dst_color_range=ColorRange.JPEG, threads=1
        )
        return np.ascontiguousarray(_values(rgb.planes[0], rgb.height, rgb.width, 3))

    def _scaled(self, picture: VideoFrame, size: Size) -> NDArray[np.uint8]:
        height, width = size
        # To planes of G, B and R: there is no fast routine for scaling into packed pixels.
        scaled = self._scalers[size].reformat(
            picture,
            width=width,
            height=height,
            format="gbrp",
            interpolation=_SCALING,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        image = np.empty((height, width, 3), np.uint8)
        for channel, plane in zip((1, 2, 0), scaled.planes, strict=True):
            image[:, :, channel] = _values(plane, height, width, 1)[:, :, 0]
        return image


def scales_planes(picture: VideoFrame, size: Size) -> bool:
    """Tell whether `picture` is scaled to `size` (height, width) before it becomes RGB."""
    height, width = size
    return (
        picture.format.name in PLANAR_FORMATS
        and picture.height >= height
        and picture.width >= width
        and picture.height * picture.width >= MIN_REDUCTION * height * width
    )


def _values(plane: VideoPlane, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Return a plane's memory as (height, width, channels), without the padding of its rows."""
    strides = (plane.line_size, channels, 1)
    return np.ndarray(
        (height, width, channels), np.uint8, buffer=memoryview(plane), strides=strides
    )


class GrayConverter:
    """Scale decoded pictures to the small gray ones that `motion` compares; keeps its tables."""

    def __init__(self) -> None:
        self._orientation = OrientationReader()
        self._reformatter = VideoReformatter()

    def __call__(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """Return *motion.PICTURE_SIZE uint8, upright: means over areas of the luma plane."""
        turn = self._orientation(picture)
        height, width = turn.stored(PICTURE_SIZE)
        gray = self._reformatter.reformat(
            picture,
            width=width,
            height=height,
            format="gray",
            interpolation=Interpolation.AREA,
            threads=1,
        )
        plane = gray.planes[0]
        image: NDArray[np.uint8] = np.ndarray(
            (height, width), np.uint8, buffer=memoryview(plane), strides=(plane.line_size, 1)
        )
        return turn.shown(image).copy()
