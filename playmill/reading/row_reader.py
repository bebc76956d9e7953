"""Rows of features and pictures, read straight from the file. Needs numpy and h5py.

They are stored as they are, chunk by chunk, each with a checksum. HDF5 computes it at every
read, which takes several times as long as the reading. Here every chunk is checked once in a
process; after that its rows are read from where they lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from playmill.reading.fletcher32 import CHECKSUM_BYTES, fletcher32, stored_checksum

BLOCK_BYTES = 4 << 20
"""What is held at a time of an array that HDF5 reads."""


class RowReader:
    """Reads spans of rows of one array. Threads may share it; processes may not.

    Args:
        node: an array in chunks of whole rows. One that is not stored plain, with checksums alone,
            is read through HDF5 always.
    """

    def __init__(self, node: Any) -> None:
        self._node, self._length = node, len(node)
        self._rows = node.chunks[0] if node.chunks else 0
        self._row_shape, self._dtype = node.shape[1:], node.dtype
        self._row_bytes = node.dtype.itemsize * prod(node.shape[1:])
        self._offsets = _chunk_offsets(node)
        self._checked = np.zeros(len(self._offsets), bool)
        # The file that HDF5 has open, which need not be the one that has its name by now.
        self._fd = int(node.file.id.get_vfd_handle()) if len(self._offsets) else -1

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows start .. stop, which exist.

        Raises:
            OSError: the rows are damaged, or the file cannot be read.
        """
        if stop <= start or not len(self._offsets):
            return np.asarray(self._node[start:stop])
        rows = self._rows
        first = start // rows
        if first == (stop - 1) // rows and not self._checked[first]:
            return self._chunk(first)[start - first * rows : stop - first * rows]
        values = np.empty((stop - start, *self._row_shape), self._dtype)
        for chunk in range(first, (stop - 1) // rows + 1):
            begin, end = max(start, chunk * rows), min(stop, (chunk + 1) * rows)
            part = values[begin - start : end - start]
            if self._checked[chunk]:
                place = self._offsets[chunk] + (begin - chunk * rows) * self._row_bytes
                self._fill(part.reshape(-1).view(np.uint8), place)
            else:
                part[...] = self._chunk(chunk)[begin - chunk * rows : end - chunk * rows]
        return values

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Yield all rows in order, whole chunks at a time, each against its checksum.

        Raises:
            OSError: as `read`.
        """
        if len(self._offsets):
            yield from (self._chunk(index) for index in range(len(self._offsets)))
        else:
            yield from blocks(self._node)

    def _chunk(self, index: int) -> NDArray[Any]:
        """Read a chunk whole and compare it with its checksum; return its rows."""
        num_bytes = self._rows * self._row_bytes
        stored = np.empty(num_bytes + CHECKSUM_BYTES, np.uint8)
        self._fill(stored, self._offsets[index])
        first, last = index * self._rows, min((index + 1) * self._rows, self._length)
        if fletcher32(stored[:num_bytes]) != stored_checksum(stored):
            return np.asarray(self._node[first:last])  # HDF5 has the last word; it will raise
        self._checked[index] = True
        values: NDArray[Any] = stored[:num_bytes].view(self._dtype)
        return values.reshape(self._rows, *self._row_shape)[: last - first]

    def _fill(self, buffer: NDArray[np.uint8], place: int) -> None:
        if os.preadv(self._fd, [buffer.data], place) != len(buffer):
            raise OSError(f"{self._node.file.filename}: is shorter than it was")


def blocks(node: Any) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array in order, by HDF5, whole chunks at a time."""
    if 0 in node.shape:
        return
    chunk = node.chunks[0] if node.chunks else len(node)
    row_bytes = node.dtype.itemsize * prod(node.shape[1:])
    rows = max(1, BLOCK_BYTES // (row_bytes * chunk)) * chunk
    for start in range(0, len(node), rows):
        yield node[start : start + rows]


def _chunk_offsets(node: Any) -> list[int]:
    """Return where each chunk begins in the file; empty: not all are stored plain."""
    plain = node.fletcher32 and not node.shuffle and node.compression is None
    if not plain or node.chunks[1:] != node.shape[1:] or node.file.driver != "sec2":
        return []
    rows = node.chunks[0]
    size = node.dtype.itemsize * prod(node.chunks) + CHECKSUM_BYTES
    found: dict[int, int] = {}

    def see(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.size == size and not chunk.filter_mask:
            found[chunk.chunk_offset[0] // rows] = chunk.byte_offset

    node.id.chunk_iter(see)
    count = -(-len(node) // rows)
    return [found[index] for index in range(count)] if set(found) == set(range(count)) else []
