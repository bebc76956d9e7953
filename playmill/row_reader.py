"""Rows of features and pictures, read straight from the file. Needs numpy and h5py.

They are stored as they are, chunk by chunk, each with a checksum. HDF5 computes it at every
read, which takes several times as long as the reading. Here HDF5 reads, and so checks, every chunk
once in a process; after that its rows are read from where they lie.
"""

from __future__ import annotations

import os
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

_CHECKSUM_BYTES = 4


class RowReader:
    """Reads spans of rows of one array. Threads may share it; processes may not.

    Args:
        node: an array in chunks of whole rows. One that is not stored plain, with checksums alone,
            is read through HDF5 always.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
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
        first, last = start // rows, (stop - 1) // rows + 1
        if not self._checked[first:last].all():
            whole = np.asarray(self._node[first * rows : last * rows])
            self._checked[first:last] = True
            return whole[start - first * rows : stop - first * rows].copy()
        values = np.empty((stop - start, *self._row_shape), self._dtype)
        buffer = values.reshape(-1).view(np.uint8).data
        done = 0
        for chunk in range(first, last):
            begin, end = max(start, chunk * rows), min(stop, (chunk + 1) * rows)
            part = buffer[done : done + (end - begin) * self._row_bytes]
            place = self._offsets[chunk] + (begin - chunk * rows) * self._row_bytes
            if os.preadv(self._fd, [part], place) != len(part):
                raise OSError(f"{self._node.file.filename}: is shorter than it was")
            done += len(part)
        return values


def _chunk_offsets(node: Any) -> list[int]:
    """Return where each chunk begins in the file; empty: not all are stored plain."""
    plain = node.fletcher32 and not node.shuffle and node.compression is None
    if not plain or node.chunks[1:] != node.shape[1:] or node.file.driver != "sec2":
        return []
    rows = node.chunks[0]
    size = node.dtype.itemsize * prod(node.chunks) + _CHECKSUM_BYTES
    found: dict[int, int] = {}

    def see(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.size == size and not chunk.filter_mask:
            found[chunk.chunk_offset[0] // rows] = chunk.byte_offset

    node.id.chunk_iter(see)
    count = -(-len(node) // rows)
    return [found[index] for index in range(count)] if set(found) == set(range(count)) else []
