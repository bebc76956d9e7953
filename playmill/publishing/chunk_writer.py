"""Write rows chunk by chunk, as HDF5 stores them. Knows no schema.

Through HDF5's own pipeline every row is copied twice more, and its checksum takes twice as long.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.reading.fletcher32 import CHECKSUM_BYTES, fletcher32


class ChunkWriter:
    """Fills an array, in order, with rows that come in blocks of any length.

    Args:
        node: an empty array in chunks of whole rows, with checksums and no other filter; or one
            without elements, which has no chunks.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._rows = node.chunks[0] if node.chunks else 1
        self._start = self._filled = 0
        num_bytes = node.dtype.itemsize * prod(node.chunks or (0,))
        self._stored = np.zeros(num_bytes + CHECKSUM_BYTES, np.uint8)
        self._body = self._stored[:num_bytes]
        self._chunk = self._body.view(node.dtype).reshape(node.chunks or (0, *node.shape[1:]))

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows, (n, ...) of the array's dtype and row shape, n in all at most its length."""
        while len(rows):
            count = min(len(rows), self._rows - self._filled)
            self._chunk[self._filled : self._filled + count] = rows[:count]
            self._filled += count
            rows = rows[count:]
            if self._filled == self._rows:
                self._write()

    def close(self) -> None:
        """Write the last chunk, filled up with zeros as HDF5 does."""
        if self._filled:
            self._chunk[self._filled :] = 0
            self._write()

    def _write(self) -> None:
        checksum = fletcher32(self._body).to_bytes(CHECKSUM_BYTES, "little")
        self._stored[-CHECKSUM_BYTES:] = np.frombuffer(checksum, np.uint8)
        place = (self._start, *(0 for _ in self._chunk.shape[1:]))
        self._node.id.write_direct_chunk(place, self._stored)
        self._start += self._rows
        self._filled = 0
