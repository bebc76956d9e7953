"""Full disks and missing permissions are told as such, with a place and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from playmill import faults as module
from playmill.errors import DiskFull, UnreadableSource
from playmill.faults import in_words, of_source, told_apart


def full(filename: Path | None = None) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", *([str(filename)] if filename else []))


def test_the_folder_of_the_file_is_named(tmp_path: Path) -> None:
    told = told_apart(full(tmp_path / "part"), [Path("/")])
    assert isinstance(told, DiskFull)
    assert told.path == str(tmp_path)
    assert "No space left on device" in str(told)
    assert "Make room there, then run the same command again" in str(told)


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


def denied(path: Path) -> PermissionError:
    return PermissionError(errno.EACCES, "Permission denied", str(path))


def test_a_file_of_a_recording_that_may_not_be_read_is_the_recordings_fault(tmp_path: Path) -> None:
    video, store = tmp_path / "play" / "video.mp4", tmp_path / "store"
    told = of_source(denied(video), [store])
    assert isinstance(told, UnreadableSource)
    assert str(told) == f"{video}: may not be read by this user; give it read permission"
    for other in (denied(store / "jobs"), PermissionError("nameless"), full(video)):
        assert of_source(other, [store]) is other


def test_an_error_is_a_sentence_without_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.h5"
    path.touch()
    assert in_words(full(path)).startswith(f"{tmp_path}: the disk is full (")
    assert in_words(FileNotFoundError(2, "gone", str(path))) == f"{path}: gone"
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    assert in_words(denied(path)) == f"{path}: {module.NO_PERMISSION}"
    assert in_words(denied(tmp_path / ".data.h5.eb47.tmp")) == (
        f"{tmp_path}: may not be written by this user; give it write permission"
    )
