"""Rows that are written chunk by chunk are those that plain h5py reads."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from playmill.publishing.chunk_writer import ChunkWriter

ROWS = np.random.default_rng(0).integers(0, 256, (1000, 24), np.uint8)


def create(file: h5py.File, num_rows: int = len(ROWS)) -> h5py.Dataset:
    shape = (num_rows, *ROWS.shape[1:])
    return file.create_dataset("x", shape, ROWS.dtype, chunks=(7, 24), fletcher32=True)


@pytest.mark.parametrize("num_rows", [7, 8, 1000])
def test_blocks_of_any_length_are_stored_in_order(tmp_path: Path, num_rows: int) -> None:
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        chunks = ChunkWriter(create(file, num_rows))
        rows = ROWS[:num_rows]
        while len(rows):
            count = int(rng.integers(0, 60))
            block = rows[:count].copy()
            chunks.append(block)
            block[...] = 0  # what was appended is the caller's again
            rows = rows[count:]
        chunks.close()
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"][...], ROWS[:num_rows])
