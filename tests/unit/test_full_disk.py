"""A full disk is told as such, with its folder and what to do; other errors stay what they are."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from playmill.errors import DiskFull
from tasks import full_disk as module
from tasks.full_disk import told_apart


def full(filename: Path | None = None) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", *([str(filename)] if filename else []))


def test_the_folder_of_the_file_is_named(tmp_path: Path) -> None:
    told = told_apart(full(tmp_path / "part"), [Path("/")])
    assert isinstance(told, DiskFull)
    assert told.path == str(tmp_path)
    assert "No space left on device" in str(told)
    assert "Make room there, then run or submit the recording again" in str(told)


def test_without_a_file_the_folder_with_the_least_room_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, datasets = tmp_path / "store", tmp_path / "datasets"
    monkeypatch.setattr(module, "_free_bytes", {store: 3e6, datasets: 9e9}.__getitem__)
    assert str(told_apart(full(), [datasets, store])).startswith(
        f"{store}: the disk is full (3.0 MB free now; "
    )


def test_what_a_library_made_of_it_is_seen_through(tmp_path: Path) -> None:
    error = RuntimeError("cannot write")
    error.__cause__ = full()
    assert isinstance(told_apart(error, [tmp_path]), DiskFull)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), ValueError("a bug")])
def test_another_error_stays(error: Exception, tmp_path: Path) -> None:
    assert told_apart(error, [tmp_path]) is error
