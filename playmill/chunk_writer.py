"""Write rows chunk by chunk, as HDF5 stores them. Knows no schema.

Through HDF5's own pipeline every row is copied twice more, and its checksum takes twice as long.
Here a thread writes chunks while the next ones are filled.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.fletcher32 import CHECKSUM_BYTES, fletcher32

GROUP_BYTES = 1 << 20
"""Chunks that are handed to the thread together: each time costs as much as writing 100 KB."""
GROUPS = 3
"""One is written, one waits, one is filled."""

Stored = NDArray[np.uint8]
"""(n,) a chunk as it lies in the file: its rows and their checksum."""


class ChunkWriter:
    """Fills an array, in order, with rows that come in blocks of any length.

    At the end of `with` all of it is written, unless the block failed.

    Args:
        node: an empty array in chunks of whole rows, with checksums and no other filter; or one
            without elements, which has no chunks.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._rows = node.chunks[0] if node.chunks else 1
        self._shape, self._dtype = node.chunks or (0, *node.shape[1:]), node.dtype
        self._stored_bytes = node.dtype.itemsize * prod(self._shape) + CHECKSUM_BYTES
        self._full: list[Stored] = []
        self._free: list[Stored] = []
        self._waiting: deque[Future[list[Stored]]] = deque()
        self._written_rows = 0
        self._begin()

    def __enter__(self) -> ChunkWriter:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="chunks")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._pool:  # HDF5 must be left alone by the time that the file is closed
            if kind is None:
                self._close()

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows, (n, ...) of the array's dtype and row shape, n in all at most its length."""
        while len(rows):
            count = min(len(rows), self._rows - self._filled)
            self._chunk[self._filled : self._filled + count] = rows[:count]
            self._filled += count
            rows = rows[count:]
            if self._filled == self._rows:
                self._end()
                self._begin()

    def _close(self) -> None:
        """Write the last chunks, the very last filled up with zeros as HDF5 does."""
        if self._filled:
            self._chunk[self._filled :] = 0
            self._end()
        self._hand_over()
        while self._waiting:
            self._waiting.popleft().result()

    def _begin(self) -> None:
        self._stored = self._free.pop() if self._free else np.zeros(self._stored_bytes, np.uint8)
        self._chunk = self._stored[:-CHECKSUM_BYTES].view(self._dtype).reshape(self._shape)
        self._filled = 0

    def _end(self) -> None:
        checksum = fletcher32(self._stored[:-CHECKSUM_BYTES]).to_bytes(CHECKSUM_BYTES, "little")
        self._stored[-CHECKSUM_BYTES:] = np.frombuffer(checksum, np.uint8)
        self._full.append(self._stored)
        if len(self._full) * self._stored_bytes >= GROUP_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        self._waiting.append(self._pool.submit(self._write, self._full))
        self._full = []
        if len(self._waiting) == GROUPS:
            self._free += self._waiting.popleft().result()

    def _write(self, chunks: list[Stored]) -> list[Stored]:
        """Write `chunks`, in the thread; return them for use anew."""
        for stored in chunks:
            place = (self._written_rows, *(0 for _ in self._shape[1:]))
            self._node.id.write_direct_chunk(place, stored)
            self._written_rows += self._rows
        return chunks
