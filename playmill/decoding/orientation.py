"""How a picture is turned when it is shown. Knows the matrix beside a picture, no streams."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True, kw_only=True, slots=True)
class Orientation:
    """Quarter turns and mirrors that lead from a stored picture to the one that players show."""

    transposed: bool = False
    """Rows become columns, first of all."""
    rows_reversed: bool = False
    """Then it is turned upside down."""
    columns_reversed: bool = False
    """Then left and right change places."""

    def stored(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) of a stored picture that is shown at `size`."""
        height, width = size
        return (width, height) if self.transposed else size

    def shown(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture as players show it.

        Args:
            image: (H, W) or (H, W, C), as it is stored.
        Returns:
            (H, W, ...), or (W, H, ...) after a quarter turn; contiguous.
        """
        image = image.swapaxes(0, 1) if self.transposed else image
        image = image[::-1] if self.rows_reversed else image
        return np.ascontiguousarray(image[:, ::-1] if self.columns_reversed else image)


AS_STORED = Orientation()


def orientation(matrix: Any) -> Orientation:
    """Return how players show a picture beside which `matrix` stands; None: there is none.

    A phone stores the pictures of a game that is held sideways like this. A turn by anything but
    quarters is none: there is no rectangle that would show it.

    Source: ISO/IEC 14496-12, 8.3.2: a pixel at (x, y) is shown at (a x + c y, b x + d y), apart
    from where the picture begins; y grows downwards.

    Args:
        matrix: a buffer of nine int32, as FFmpeg's side data have it.
    """
    if matrix is None:
        return AS_STORED
    a, b, _, c, d, *_ = _MATRIX.unpack_from(matrix)
    if a and d and not b and not c:
        return Orientation(columns_reversed=a < 0, rows_reversed=d < 0)
    if b and c and not a and not d:
        return Orientation(transposed=True, columns_reversed=c < 0, rows_reversed=b < 0)
    return AS_STORED


class OrientationReader:
    """Tells how the pictures of one stream are shown.

    What stands beside a picture is looked at only where the angle is one that was not seen before:
    PyAV's list of it and the picture hold each other, so that the picture would stay in memory
    until garbage is collected, and hundreds of them with it.
    """

    def __init__(self) -> None:
        self._known: dict[int, Orientation] = {}

    def __call__(self, picture: Any) -> Orientation:
        """Return how players show `picture`, a frame of PyAV."""
        angle: int = picture.rotation
        if angle not in self._known:
            self._known[angle] = orientation(picture.side_data.get("DISPLAYMATRIX"))
        return self._known[angle]
