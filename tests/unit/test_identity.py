"""A store and its datasets folder are told from empty mount points, and from others."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from playmill.errors import UsageError
from playmill.markers import put_if_absent
from playmill.store.identity import (
    DATASETS_MARKER,
    STORE_MARKER,
    Identity,
    begin,
    check_datasets,
    read_identity,
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    return tmp_path / "datasets"


def test_a_store_is_begun_once(store: Path, datasets: Path) -> None:
    assert read_identity(store) is None
    first = begin(store, datasets)
    assert first.store != first.datasets
    assert begin(store, datasets) == read_identity(store) == first


def test_whoever_begins_it_at_once_gets_the_same(store: Path, datasets: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: begin(store, datasets), range(32)))
    assert len(found) == 1
    check_datasets(store, datasets)


def test_what_is_there_already_gets_its_markers_and_stays(store: Path, datasets: Path) -> None:
    (store / "jobs" / "a").mkdir(parents=True)
    (datasets / "session_a").mkdir(parents=True)
    begin(store, datasets)
    assert {path.name for path in store.iterdir()} == {"jobs", STORE_MARKER}
    assert {path.name for path in datasets.iterdir()} == {"session_a", DATASETS_MARKER}


def test_a_death_between_the_markers_costs_nothing(store: Path, datasets: Path) -> None:
    datasets.mkdir()
    put_if_absent(datasets / DATASETS_MARKER, {"id": "first"})
    assert begin(store, datasets).datasets == "first"


def test_two_stores_of_one_datasets_folder_are_two(tmp_path: Path, datasets: Path) -> None:
    one, other = begin(tmp_path / "one", datasets), begin(tmp_path / "other", datasets)
    assert one.datasets == other.datasets
    assert one.store != other.store


def test_a_folder_that_is_not_mounted_is_refused(store: Path, datasets: Path) -> None:
    known = begin(store, datasets)
    datasets.rename(datasets.with_name("elsewhere"))
    for _ in ("absent", "empty"):
        with pytest.raises(UsageError, match=f"found id none, expected {known.datasets}"):
            check_datasets(store, datasets)
        # Nor is it taken for a new one by those who submit.
        with pytest.raises(UsageError, match="Is the share mounted"):
            begin(store, datasets)
        datasets.mkdir(exist_ok=True)
    assert list(datasets.iterdir()) == []


def test_another_folder_is_refused(store: Path, datasets: Path, tmp_path: Path) -> None:
    begin(store, datasets)
    other = begin(tmp_path / "other store", tmp_path / "other")
    with pytest.raises(UsageError, match=f"marked as another folder: found id {other.datasets}"):
        check_datasets(store, tmp_path / "other")


@pytest.mark.parametrize("whole", [True, False], ids=["with its marker", "mended as it says"])
def test_a_folder_that_was_moved_or_restored_is_the_same(
    store: Path, datasets: Path, tmp_path: Path, whole: bool
) -> None:
    begin(store, datasets)
    restored = tmp_path / "restored"
    shutil.copytree(datasets, restored)
    if not whole:
        (restored / DATASETS_MARKER).unlink()
        with pytest.raises(UsageError, match="If it is the right folder, write") as caught:
            check_datasets(store, restored)
        text = str(caught.value).rpartition("write ")[2].partition(" into ")[0]
        (restored / DATASETS_MARKER).write_text(text)
    check_datasets(store, restored)


def test_a_store_in_its_datasets_folder_needs_one_marker_alone(datasets: Path) -> None:
    store = datasets / ".playmill"
    assert isinstance(begin(store, datasets), Identity)
    assert [path.name for path in datasets.iterdir()] == [".playmill"]
    check_datasets(store, datasets)


def test_where_nothing_may_be_written_a_marked_folder_is_no_trouble(
    store: Path, datasets: Path
) -> None:
    known = begin(store, datasets)
    for folder in (store, datasets):
        folder.chmod(0o555)
    try:
        assert begin(store, datasets) == known
    finally:
        for folder in (store, datasets):
            folder.chmod(0o755)
