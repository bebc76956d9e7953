"""Rows that are written chunk by chunk are those that plain h5py reads."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from playmill import chunk_writer
from playmill.chunk_writer import ChunkWriter

ROWS = np.random.default_rng(0).integers(0, 256, (1000, 24), np.uint8)


def create(file: h5py.File, num_rows: int = len(ROWS)) -> h5py.Dataset:
    shape = (num_rows, *ROWS.shape[1:])
    return file.create_dataset("x", shape, ROWS.dtype, chunks=(7, 24), fletcher32=True)


@pytest.mark.parametrize("group_bytes", [1, 400, 1 << 20])
@pytest.mark.parametrize("num_rows", [7, 8, 1000])
def test_blocks_of_any_length_are_stored_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_bytes: int, num_rows: int
) -> None:
    monkeypatch.setattr(chunk_writer, "GROUP_BYTES", group_bytes)
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "x.h5", "w") as file, ChunkWriter(create(file, num_rows)) as chunks:
        rows = ROWS[:num_rows]
        while len(rows):
            count = int(rng.integers(0, 60))
            block = rows[:count].copy()
            chunks.append(block)
            block[...] = 0  # what was appended is the caller's again
            rows = rows[count:]
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"][...], ROWS[:num_rows])


def write(node: h5py.Dataset, *, error: Exception | None = None) -> None:
    with ChunkWriter(node) as chunks:
        chunks.append(ROWS[:20])
        if error is not None:
            raise error


def test_what_the_thread_cannot_write_is_an_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        node = create(file, num_rows=7)
        with pytest.raises((OSError, ValueError), match=r"(?i)offset"):
            write(node)


def test_after_an_error_of_the_caller_nothing_more_is_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        node = create(file)
        with pytest.raises(LookupError, match="no more rows"):
            write(node, error=LookupError("no more rows"))
        assert node.id.get_num_chunks() == 0
