"""Parts: one chunk's features (and pictures) in zarr. Written once, verified at every reading.

The only home of zarr. Knows neither jobs nor queues; a part is a folder and a digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.codecs
from numpy.typing import NDArray
from zarr.storage import LocalStore

from playmill.errors import PartError
from playmill.motion import COLUMNS, PICTURE_SIZE

ROWS_PER_ZARR_CHUNK = {"features": 256, "images": 16, "motion": 4096, "glances": 2}
"""Rows in one zarr chunk: a chunk is one file, so few enough files and little memory."""


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
        self._digest = hashlib.sha256()
        self._digest.update(_describe(row_shape, dtype))
        self.num_rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows, (n, *row_shape), of the array's own dtype; whole zarr chunks are written."""
        expected = (self._array.dtype, self._array.shape[1:])
        if (rows.dtype, rows.shape[1:]) != expected:
            raise ValueError(f"rows are {rows.dtype} {rows.shape}, not {expected}")
        self._digest.update(np.ascontiguousarray(rows).data)
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
        self.num_rows += count
        self._pending = [rows[count:]]
        self._num_pending -= count

    def seal(self) -> str:
        """Write what is pending; return the sha256 hex digest of all rows."""
        self._write(self._num_pending)
        return self._digest.hexdigest()


def _compressors(name: str) -> list[zarr.codecs.ZstdCodec | zarr.codecs.Crc32cCodec]:
    # float16 features hardly compress (ratio 1.05 to 1.17); pictures do.
    checksum = zarr.codecs.Crc32cCodec()
    return [zarr.codecs.ZstdCodec(level=1), checksum] if name == "images" else [checksum]


def _describe(row_shape: tuple[int, ...], dtype: str) -> bytes:
    return f"{np.dtype(dtype).str} {row_shape}".encode()


class PartWriter:
    """A part while it is written.

    Arrays: `features` (n, D) float16; `images` (n, H, W, 3) uint8, if asked for; `motion` (n, C)
    float32, how each picture moved against the one before it in the chunk; `glances` (2 or 0,
    *motion.PICTURE_SIZE) uint8, the first and the last picture, small and gray.
    """

    def __init__(self, folder: Path, *, dim: int, image_size: tuple[int, int] | None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._arrays = {
            "features": PartArray(folder, "features", (dim,), "float16"),
            "motion": PartArray(folder, "motion", (len(COLUMNS),), "float32"),
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
            _fsync(path)
        _fsync(self.folder)
        return digests


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_part(folder: Path, name: str, *, num_rows: int, digest: str) -> Iterator[NDArray[Any]]:
    """Yield a part's rows in blocks, checking them against the digest of its commit.

    The digest is known to be right only when the last block has been taken: whoever writes the
    rows elsewhere must throw that away when this raises.

    Args:
        folder: the part.
        name: "features", "images", "motion" or "glances".
        num_rows, digest: what the commit marker says.
    Raises:
        PartError: the part is missing or damaged, or is not the one that was committed.
    """
    sha = hashlib.sha256()
    try:
        array = zarr.open_array(LocalStore(folder / name, read_only=True), mode="r")
        if array.shape[0] != num_rows:
            raise PartError(str(folder), f"{name} has {array.shape[0]} rows, its marker {num_rows}")
        sha.update(_describe(array.shape[1:], array.dtype.str))
        for start in range(0, num_rows, array.chunks[0]):
            rows = np.asarray(array[start : start + array.chunks[0]])
            sha.update(np.ascontiguousarray(rows).data)
            yield rows
    except (PartError, MemoryError):
        raise
    except Exception as error:  # damaged metadata makes zarr raise whatever it stumbles over
        raise PartError(str(folder), f"{name} cannot be read: {error}") from error
    if sha.hexdigest() != digest:
        raise PartError(str(folder), f"{name} has digest {sha.hexdigest()}, its marker {digest}")
