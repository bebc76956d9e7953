"""Our checksum is HDF5's."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from playmill.reading.fletcher32 import fletcher32, stored_checksum


def by_hdf5(data: NDArray[np.uint8]) -> int:
    """Return the checksum that HDF5 stores with `data`."""
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        node = file.create_dataset("x", data=data, chunks=data.shape, fletcher32=True)
        file.flush()
        return stored_checksum(np.frombuffer(node.id.read_direct_chunk((0,))[1], np.uint8))


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=5000))
def test_any_bytes_have_hdf5s_checksum(data: bytes) -> None:
    values = np.frombuffer(data, np.uint8)
    assert fletcher32(values) == by_hdf5(values)


@pytest.mark.parametrize("size", [1, 2, 3, 2047, 2048, 2049, 163_840, 1_000_003, 5_000_000])
@pytest.mark.parametrize("kind", ["random", "zeros", "ones", "one bit"])
def test_chunks_of_any_size_have_hdf5s_checksum(size: int, kind: str) -> None:
    values = np.zeros(size, np.uint8)
    if kind == "random":
        values = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    elif kind == "ones":
        values[:] = 255
    elif kind == "one bit":
        values[size // 2] = 1
    assert fletcher32(values) == by_hdf5(values)


def test_sums_that_are_zero_by_the_modulus_are_not_zero() -> None:
    values = np.full(2, 255, np.uint8)
    assert fletcher32(values) == by_hdf5(values) == 0xFFFFFFFF


def test_hdf5_reads_what_is_stored_with_our_checksum(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (10, 7), np.uint8)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        checksum = fletcher32(rows.reshape(-1))
        for place, stored in (("x", checksum), ("y", checksum ^ 1)):
            node = file.create_dataset(
                place, rows.shape, np.uint8, chunks=rows.shape, fletcher32=True
            )
            node.id.write_direct_chunk((0, 0), rows.tobytes() + stored.to_bytes(4, "little"))
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"][...], rows)
        with pytest.raises(OSError, match="filter returned failure"):
            file["y"][...]
