"""Rows of a published dataset: a disk that is away for a moment says nothing against them."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import h5py
import pytest

from playmill.errors import DatasetError, PartError
from playmill.publishing import row_source
from playmill.publishing.row_source import DatasetRows


@pytest.fixture
def rows(tmp_path: Path) -> DatasetRows:
    path = tmp_path / "datasets" / "session_x" / "data.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no HDF5")
    return DatasetRows(path, "mean_pixel", "a" * 64)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "as a damaged dataset"])
def test_a_fault_of_the_disk_is_that(
    rows: DatasetRows, monkeypatch: pytest.MonkeyPatch, number: int, wrapped: bool
) -> None:
    fault = OSError(number, "away")

    def open_dataset(path: Any) -> None:
        if wrapped:
            raise DatasetError(str(path), "is not readable") from fault
        raise fault

    monkeypatch.setattr(row_source, "open_dataset", open_dataset)
    with pytest.raises(OSError, match="away"):
        rows.dim()


def test_hdf5_names_a_fault_of_the_disk_by_its_number(rows: DatasetRows) -> None:
    text = "Can't read data (file read failed: errno = 5, error message = 'Input/output error')"
    assert rows._is_passing(OSError(text))
    assert not rows._is_passing(OSError("Can't read data (filter returned failure during read)"))


def test_a_folder_that_is_not_mounted_is_a_fault_of_the_disk(rows: DatasetRows) -> None:
    rows.path.unlink()
    rows.path.parent.rmdir()
    with pytest.raises(FileNotFoundError, match="no such dataset"):
        rows.dim()


def test_a_dataset_that_has_gone_or_is_none_has_lost_its_rows(rows: DatasetRows) -> None:
    with pytest.raises(PartError, match="is not a readable HDF5 file"):
        rows.dim()
    with h5py.File(rows.path, "w"):
        pass
    with pytest.raises(PartError, match="is no Playmill dataset"):
        rows.dim()
    rows.path.unlink()
    with pytest.raises(PartError, match="no such dataset"):
        rows.dim()
