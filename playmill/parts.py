"""Parts: one chunk's features (and pictures) in zarr. Written once, verified at every reading.

The only home of zarr. Knows neither jobs nor queues; a part is a folder and a digest.
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.codecs
from blake3 import blake3
from numpy.typing import NDArray
from zarr.storage import LocalStore

from playmill.decoding.motion import COLUMNS, PICTURE_SIZE
from playmill.errors import PartError
from playmill.markers import fsync

ROWS_PER_ZARR_CHUNK = {"features": 256, "images": 16, "motion": 512, "glances": 2}
"""Rows in one zarr chunk: a chunk is one file, so few enough files and little memory."""
READ_THREADS = 2
AHEAD_BYTES = 4 << 20
"""Rows that are read and checked before they are asked for."""
SMALL_BYTES = 64 << 10
"""A smaller block is read sooner than a thread is asked to."""
_PLAIN_BYTES = (
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "bytes"},  # of one byte each, which have no order
)
_PLAIN_TYPES = {"float16": "<f2", "uint8": "|u1"}
_PLAIN_KEYS = {"name": "default", "configuration": {"separator": "."}}
_CHECKSUM_BYTES = 4


class PartArray:
    """One array of a part while it is written: rows are appended, then sealed."""

    def __init__(self, folder: Path, name: str, row_shape: tuple[int, ...], dtype: str) -> None:
        rows = ROWS_PER_ZARR_CHUNK[name]
        # A missing zarr chunk would read as the fill value: NaN shows, and an all-zero chunk is
        # stored like any other. The checksum codec turns a flipped bit into an error.
        self._array = zarr.create_array(
            store=LocalStore(folder / name),
            shape=(0, *row_shape),
            chunks=(rows, *row_shape),
            dtype=dtype,
            fill_value=np.nan if np.dtype(dtype).kind == "f" else 0,
            compressors=_compressors(name),
            chunk_key_encoding={"name": "default", "separator": "."},
            config={"write_empty_chunks": True},
        )
        self._rows = rows
        self._pending: list[NDArray[Any]] = []
        self._num_pending = 0
        self._digest = _digest_of(row_shape, dtype)
        self.num_rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows, (n, *row_shape), of the array's own dtype; whole zarr chunks are written."""
        expected = (self._array.dtype, self._array.shape[1:])
        if (rows.dtype, rows.shape[1:]) != expected:
            raise ValueError(f"rows are {rows.dtype} {rows.shape}, not {expected}")
        self._pending.append(rows)
        self._num_pending += len(rows)
        if self._num_pending >= self._rows:
            self._write(self._num_pending - self._num_pending % self._rows)

    def _write(self, count: int) -> None:
        rows = np.concatenate(self._pending) if self._pending else None
        if rows is None or not count:
            return
        start = self.num_rows
        self._array.resize((start + count, *self._array.shape[1:]))
        self._array[start:] = rows[:count]
        for first in range(0, count, self._rows):
            self._digest.update(_block_digest(rows[first : min(first + self._rows, count)]))
        self.num_rows += count
        self._pending = [rows[count:]]
        self._num_pending -= count

    def seal(self) -> str:
        """Write what is pending; return the hex digest of all rows: that of its blocks' digests."""
        self._write(self._num_pending)
        return self._digest.hexdigest()


def _compressors(name: str) -> list[zarr.codecs.ZstdCodec | zarr.codecs.Crc32cCodec]:
    # float16 features hardly compress (ratio 1.05 to 1.17); pictures do.
    checksum = zarr.codecs.Crc32cCodec()
    return [zarr.codecs.ZstdCodec(level=1), checksum] if name == "images" else [checksum]


def _digest_of(row_shape: tuple[int, ...], dtype: str) -> blake3:
    """Begin the digest of an array: what its rows are, then the digest of each of its blocks."""
    return blake3(f"{np.dtype(dtype).str} {row_shape}".encode())


def _block_digest(rows: NDArray[Any]) -> bytes:
    # BLAKE3: as strong as SHA-256, at 5 GB/s where SHA-256 and BLAKE2b do 0.3.
    return blake3(np.ascontiguousarray(rows).data.cast("B")).digest()


class PartWriter:
    """A part while it is written.

    Arrays: `features` (n, D) float16; `images` (n, H, W, 3) uint8, if asked for; `motion` (n, C)
    float16, how each picture moved against the one before it in the chunk; `glances` (2 or 0,
    *motion.PICTURE_SIZE) uint8, the first and the last picture, small and gray.
    """

    def __init__(self, folder: Path, *, dim: int, image_size: tuple[int, int] | None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._arrays = {
            "features": PartArray(folder, "features", (dim,), "float16"),
            "motion": PartArray(folder, "motion", (len(COLUMNS),), "float16"),
            "glances": PartArray(folder, "glances", PICTURE_SIZE, "uint8"),
        }
        if image_size is not None:
            self._arrays["images"] = PartArray(folder, "images", (*image_size, 3), "uint8")

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows to the array `name`."""
        self._arrays[name].append(rows)

    def close(self) -> dict[str, str]:
        """Put everything on disk; return the digest of each array."""
        digests = {name: array.seal() for name, array in self._arrays.items()}
        for path in [*sorted(self.folder.rglob("*")), *list(self.folder.parents)[:2]]:
            fsync(path)
        fsync(self.folder)
        return digests


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """One array of a part, as its commit marker says that it is."""

    folder: Path
    """The part."""
    name: str
    """"features", "images", "motion" or "glances"."""
    num_rows: int
    digest: str


def read_parts(promises: Iterable[Promise]) -> Iterator[NDArray[Any]]:
    """Yield the rows of parts in order, in blocks, checking each part against its promise.

    A block is overwritten once the next one is asked for: fresh memory for each would cost more
    than reading it. Threads read and check ahead of the caller. A digest is known to be right
    only when a part's last block comes: whoever writes rows elsewhere must throw that away when
    this raises.

    Raises:
        PartError: a part is missing or damaged, or is not the one that was committed.
    """
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="parts") as pool:
        waiting: deque[_Waiting] = deque()
        spare: list[NDArray[np.uint8]] = []
        for array, start in _blocks(promises):
            memory = spare.pop() if spare else np.empty(0, np.uint8)
            if len(memory) < array.stored_bytes:
                memory = np.empty(array.stored_bytes, np.uint8)
            read = partial(array.block, start, memory)
            result: Callable[[], _Block]
            result = read if array.stored_bytes < SMALL_BYTES else pool.submit(read).result
            waiting.append((array, result, memory))
            if len(waiting) * array.stored_bytes > AHEAD_BYTES:
                first, result, memory = waiting.popleft()
                yield first.take(result())
                spare.append(memory)
        while waiting:
            first, result, _ = waiting.popleft()
            yield first.take(result())


def _blocks(promises: Iterable[Promise]) -> Iterator[tuple[_StoredArray, int]]:
    """Yield the arrays, and the first row of each of their blocks."""
    for promise in promises:
        array = _StoredArray(promise)
        for start in range(0, promise.num_rows, array.step):
            yield array, start


_Block = tuple[NDArray[Any], bytes]
"""Rows, and their digest."""
_Waiting = tuple["_StoredArray", Callable[[], _Block], NDArray[np.uint8]]
"""A block that is being read: of which array, its result, and the memory that it is read into."""


class _StoredArray:
    """An array of a part while it is read."""

    def __init__(self, promise: Promise) -> None:
        self._promise = promise
        with _part_error(promise):
            path = promise.folder / promise.name
            shape, chunks, dtype, self._zarr = _opened(path)
        if shape[0] != promise.num_rows:
            raise self._error(f"has {shape[0]} rows, its marker {promise.num_rows}")
        self.step = chunks[0]
        self._block_bytes = dtype.itemsize * math.prod(chunks)
        self.stored_bytes = self._block_bytes + _CHECKSUM_BYTES
        self._chunks, self._dtype = chunks, dtype
        self._digest = _digest_of(shape[1:], dtype.str)
        self._left = promise.num_rows
        self._check_end()

    def block(self, start: int, memory: NDArray[np.uint8]) -> _Block:
        """Read the block of rows that begins at row `start`; return it and its digest.

        Args:
            memory: (stored_bytes or more,) where it may lie.
        """
        with _part_error(self._promise):
            if self._zarr is not None:
                rows = np.asarray(self._zarr[start : start + self.step])
            else:
                rows = self._plain(start, memory)[: self._promise.num_rows - start]
            return rows, _block_digest(rows)

    def _plain(self, start: int, memory: NDArray[np.uint8]) -> NDArray[Any]:
        """Read a zarr chunk that is its rows and their CRC32C: a tenth of what zarr takes.

        The rows' digest is that of the commit, or this part is damaged, whatever the CRC32C says.
        """
        key = f"c.{start // self.step}" + ".0" * (len(self._chunks) - 1)
        path = self._promise.folder / self._promise.name / key
        with path.open("rb", buffering=0) as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes != self.stored_bytes:
                raise ValueError(f"{path.name} has {num_bytes} bytes")
            if file.readinto(memory[:num_bytes].data) != num_bytes:
                raise ValueError(f"{path.name} is shorter than it was")
        return memory[: self._block_bytes].view(self._dtype).reshape(self._chunks)

    def take(self, block: _Block) -> NDArray[Any]:
        """Return the rows of the next block; with the last one the digest must be right."""
        rows, digest = block
        self._digest.update(digest)
        self._left -= len(rows)
        self._check_end()
        return rows

    def _check_end(self) -> None:
        found, promised = self._digest.hexdigest(), self._promise.digest
        if not self._left and found != promised:
            raise self._error(f"has digest {found}, its marker {promised}")

    def _error(self, problem: str) -> PartError:
        return PartError(str(self._promise.folder), f"{self._promise.name} {problem}")


def _opened(path: Path) -> tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any], Any]:
    """Return shape, chunks and dtype of the array `path`; and zarr's array, unless it is plain."""
    plain = _plain_layout((path / "zarr.json").read_bytes())
    if plain is not None:
        return *plain, None
    array = zarr.open_array(LocalStore(path, read_only=True), mode="r")
    return array.shape, array.chunks, array.dtype, array


@lru_cache(maxsize=64)
def _plain_layout(
    metadata: bytes,
) -> tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]] | None:
    """Return shape, chunks and dtype of an array that is plain; None: it is not.

    The arrays of a recording have few different ones among them.
    """
    value = json.loads(metadata)
    shape, grid = tuple(value["shape"]), value["chunk_grid"]
    plain = (
        value["zarr_format"] == 3
        and value["data_type"] in _PLAIN_TYPES
        and grid["name"] == "regular"
        and tuple(grid["configuration"]["chunk_shape"][1:]) == shape[1:]
        and value["codecs"][0] in _PLAIN_BYTES
        and value["codecs"][1:] == [{"name": "crc32c"}]
        and value["chunk_key_encoding"] == _PLAIN_KEYS
    )
    if not plain:
        return None
    chunks = tuple(grid["configuration"]["chunk_shape"])
    return shape, chunks, np.dtype(_PLAIN_TYPES[value["data_type"]])


@contextmanager
def _part_error(promise: Promise) -> Iterator[None]:
    try:
        yield
    except (PartError, MemoryError):
        raise
    except Exception as error:  # damaged metadata makes zarr raise whatever it stumbles over
        problem = f"{promise.name} cannot be read: {error}"
        raise PartError(str(promise.folder), problem) from error
