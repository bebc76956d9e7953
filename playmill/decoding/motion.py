"""How the picture moved from one frame to the next, from small gray pictures. Knows no decoder.

A row of signals belongs to the later of two consecutive frames. All sums are of whole numbers, so
that a row is the same bits on every machine, alone or among others: chunks can be computed apart
and joined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PICTURE_SIZE = (36, 64)
"""(height, width) of the small pictures. A quick turn in a first-person game (5 degrees between
two frames) moves them by 3 to 4 pixels, which the gradient below still follows; fine grain, which
video coding changes at every keyframe, is averaged away."""
CELLS = (3, 4)
"""(rows, columns) of cells with signals of their own: what a key moves is often only a part."""
MAX_CHANGE = 255
"""Of the signal `change`: from black to white all over."""
_BLOCK = 256
"""Pictures taken at once, to bound memory."""
_COARSE_REGULARIZER, _CELL_REGULARIZER = 64, 4
"""Added to mean squared gradients: less contrast than that is noise, not structure."""


def _columns() -> tuple[str, ...]:
    cells = [f"{row}_{column}" for row in range(CELLS[0]) for column in range(CELLS[1])]
    return (
        "dx",
        "dy",
        "change",
        *(f"dx_{cell}" for cell in cells),
        *(f"dy_{cell}" for cell in cells),
    )


COLUMNS: tuple[str, ...] = _columns()
"""Names of the signals. `dx`, `dy`: translation of the whole picture, in fractions of its width and
height, right and down are positive; `dx_R_C`, `dy_R_C`: of the cell in row R, column C; they are
too small rather than too large, the more the picture has that stands still. `change`: mean absolute
difference of gray values, 0 to 255."""


def motion_rows(
    pictures: NDArray[np.uint8], previous: NDArray[np.uint8] | None = None
) -> NDArray[np.float16]:
    """Return how each picture moved against the one before it.

    Args:
        pictures: (N, *PICTURE_SIZE) uint8 gray, in time order.
        previous: the picture before the first, *PICTURE_SIZE; None: unknown.
    Returns:
        (N, len(COLUMNS)) float16. Without `previous`, row 0 is NaN.
    Raises:
        ValueError: pictures of another size or type.
    """
    for name, array in (("pictures", pictures), ("previous", previous)):
        if array is not None and (array.shape[-2:] != PICTURE_SIZE or array.dtype != np.uint8):
            raise ValueError(f"{name} is {array.shape} {array.dtype}, not (..., *{PICTURE_SIZE})")
    rows = np.full((len(pictures), len(COLUMNS)), np.nan, np.float16)
    if previous is not None and len(pictures):
        rows[:1] = _signals(previous[None].astype(np.int32), pictures[:1].astype(np.int32))
    for start in range(1, len(pictures), _BLOCK):
        block = pictures[start - 1 : start + _BLOCK].astype(np.int32)
        rows[start : start + _BLOCK] = _signals(block[:-1], block[1:])
    return rows


def join_chunks(
    rows: NDArray[np.float16],
    starts: NDArray[np.int64],
    *,
    first: NDArray[np.uint8],
    last: NDArray[np.uint8],
) -> None:
    """Fill in the rows at which chunks begin, where only the chunk before knows the picture before.

    Then `rows` is bit for bit what `motion_rows` gives for all pictures at once.

    Args:
        rows: (N, len(COLUMNS)) `motion_rows` of each of the chunks, in time order; changed.
        starts: (K,) the row at which each chunk begins; no chunk is empty.
        first: (K, *PICTURE_SIZE) each chunk's first picture.
        last: (K, *PICTURE_SIZE) each chunk's last picture.
    """
    for begin in range(1, len(starts), _BLOCK):
        end = min(begin + _BLOCK, len(starts))
        before, after = last[begin - 1 : end - 1], first[begin:end]
        rows[starts[begin:end]] = _signals(before.astype(np.int32), after.astype(np.int32))


def _signals(before: NDArray[np.int32], after: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return (n, len(COLUMNS)): the least-squares shift that explains what changed."""
    change = np.abs(after - before).sum(axis=(1, 2), dtype=np.int64) / before[0].size
    dx, dy = _whole_shift(_halved(before), _halved(after))
    cells_dx = _cell_shifts(before, after)
    cells_dy = _cell_shifts(before.swapaxes(1, 2), after.swapaxes(1, 2)).swapaxes(1, 2)
    count = len(before)
    return np.concatenate(
        (
            np.stack((dx, dy, change), axis=1),
            cells_dx.reshape(count, -1),
            cells_dy.reshape(count, -1),
        ),
        axis=1,
    )


def _halved(pictures: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sum squares of 2x2: on a coarser picture, the whole may have moved farther."""
    rows = pictures[:, 0::2] + pictures[:, 1::2]
    return rows[:, :, 0::2] + rows[:, :, 1::2]


def _whole_shift(
    before: NDArray[np.int32], after: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n,) dx and (n,) dy of the whole picture, blind to a change of brightness."""
    total, changed = before + after, (after - before)[:, 1:-1, 1:-1]
    # Four times the gradient of the mean of both.
    across = total[:, 1:-1, 2:] - total[:, 1:-1, :-2]
    down = total[:, 2:, 1:-1] - total[:, :-2, 1:-1]
    size = changed[0].size

    def covariance(one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.float64]:
        product = np.multiply(one, other, dtype=np.int64).sum(axis=(1, 2)) * size
        sums = one.sum(axis=(1, 2), dtype=np.int64) * other.sum(axis=(1, 2), dtype=np.int64)
        found: NDArray[np.float64] = (product - sums) / size**2
        return found

    floor = 16.0 * _COARSE_REGULARIZER
    xx, yy = covariance(across, across) + floor, covariance(down, down) + floor
    xy, xt, yt = covariance(across, down), covariance(across, changed), covariance(down, changed)
    determinant = xx * yy - xy * xy
    height, width = before.shape[1:]
    dx = -4 * (yy * xt - xy * yt) / determinant / width
    dy = -4 * (xx * yt - xy * xt) / determinant / height
    return dx, dy


def _cell_shifts(before: NDArray[np.int32], after: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return (n, cells down, cells across): the shift along the last axis in each cell."""
    total, changed = before + after, after - before
    across = np.zeros_like(total)
    across[:, :, 1:-1] = total[:, :, 2:] - total[:, :, :-2]
    wide = total.shape[2] == PICTURE_SIZE[1]
    rows, columns = CELLS if wide else CELLS[::-1]
    count, height, width = total.shape
    shape = (count, rows, height // rows, columns, width // columns)

    def summed(product: NDArray[np.int32]) -> NDArray[np.int64]:
        sums: NDArray[np.int64] = product.reshape(shape).sum(axis=(2, 4), dtype=np.int64)
        return sums

    size = (height // rows) * (width // columns)
    floor = 16.0 * _CELL_REGULARIZER * size
    shifts: NDArray[np.float64] = summed(across * changed) / (summed(across * across) + floor)
    shifts *= -4.0 / width
    return shifts
