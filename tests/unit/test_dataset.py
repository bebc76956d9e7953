from __future__ import annotations

import multiprocessing
import pickle
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from playmill.dataset import Dataset, open_dataset
from playmill.dataset_folder import Datasets, open_folder
from playmill.errors import DatasetError
from playmill.reading.row_reader import RowReader
from playmill.storage import DataStorage
from tests.unit.dataset_samples import (
    ZERO_US,
    make_content,
    make_events,
    make_features,
    make_images,
    make_matrix,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return DataStorage(tmp_path_factory.mktemp("written")).write(
        make_content(), features=[make_features()], images=make_images()
    )


@pytest.fixture
def path(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path))


def write_sessions(folder: Path, keys: Sequence[Sequence[str]]) -> Path:
    """Write session s-i with 100 + 10 * i frames, whose player used keys[i]."""
    for place, names in enumerate(keys):
        count = 100 + 10 * place
        times = range(ZERO_US, ZERO_US + 3_000_000, 9_001)
        content = make_content(
            count,
            session_id=f"s-{place}",
            events=make_events(times, keys=names),
            video=f"video-{place}",
        )
        DataStorage(folder).write(content, features=[make_features(count, seed=place)])
    return folder


def gaps_at(*frames: int) -> np.ndarray:
    """Return pts of 150 frames with half a second missing before each of `frames`."""
    step = np.full(150, 3000)
    step[list(frames)] = 45_000
    return np.cumsum(step)


def test_a_dataset_says_what_it_is(path: Path) -> None:
    with open_dataset(path) as dataset:
        assert repr(dataset) == f"Dataset({str(path)!r}, 150 frames)"
        assert (len(dataset), dataset.session_id, dataset.clock) == (150, "s-1", "unix_us")
        assert dataset.feature_keys == ("encoder-a",)
        assert dataset.key_names == ("a", "w")
        assert dataset.button_names == dataset.axis_names == ()
        assert dataset.names("/frames/flags")[0] == "damaged"
        assert (str(dataset.time_base), dataset.pts_zero_us) == ("1/90000", ZERO_US)


def test_features_are_sliced_and_labels_are_read_whole_once(path: Path) -> None:
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.features("encoder-a")[7:11], make_matrix()[7:11])
        np.testing.assert_array_equal(dataset.features()[0], make_matrix()[0])
        assert dataset.timestamps_us is dataset.timestamps_us
        with pytest.raises(ValueError, match="read-only"):
            dataset.timestamps_us[0] = 0
        with pytest.raises(KeyError, match="there are: encoder-a"):
            dataset.features("other")
        with pytest.raises(DatasetError, match="/actions/jump is missing"):
            dataset.actions("jump")


def test_a_window_has_the_same_frames_in_every_field(path: Path) -> None:
    with open_dataset(path) as dataset:
        fields = ("features", "images", "pts", "timestamp_us", "flags", "keys", "key_presses")
        window = dataset.window(60, 10, fields=fields)
        assert tuple(window) == fields
        np.testing.assert_array_equal(window["features"], make_matrix()[60:70])
        np.testing.assert_array_equal(window["timestamp_us"], dataset.timestamps_us[60:70])
        np.testing.assert_array_equal(window["keys"], dataset.actions("keys")[60:70])
        assert window["images"].shape == (10, 6, 8, 3)


@pytest.mark.parametrize(("start", "length"), [(-1, 5), (146, 5), (0, 0), (0, 151)])
def test_a_window_beyond_the_session_is_an_error(path: Path, start: int, length: int) -> None:
    with open_dataset(path) as dataset, pytest.raises(IndexError, match="of 150"):
        dataset.window(start, length)


def test_windows_follow_one_another_by_the_stride(path: Path) -> None:
    with open_dataset(path) as dataset:
        assert dataset.window_starts(64).tolist() == [0, 64]
        assert dataset.window_starts(64, stride=40).tolist() == [0, 40, 80]
        assert dataset.window_starts(150).tolist() == [0]
        assert dataset.window_starts(151).tolist() == []
        firsts = [int(window["timestamp_us"][0]) for window in dataset.windows(64, stride=40)]
        assert firsts == dataset.timestamps_us[[0, 40, 80]].tolist()
        with pytest.raises(ValueError, match="must be at least 1"):
            dataset.window_starts(0)


def test_windows_can_keep_off_gaps_and_invalid_frames(tmp_path: Path) -> None:
    content = make_content(pts=gaps_at(40, 41, 90))
    with open_dataset(DataStorage(tmp_path).write(content)) as dataset:
        times, valid = dataset.timestamps_us, dataset.actions("valid")
        for length in (1, 2, 7, 30):
            starts = range(150 - length + 1)
            whole = [
                start
                for start in starts
                if not (np.diff(times[start : start + length]) > 100_000).any()
            ]
            found = dataset.window_starts(length, stride=1, max_gap_us=100_000)
            assert found.tolist() == whole
            good = [start for start in starts if valid[start : start + length].all()]
            assert dataset.window_starts(length, stride=1, valid_only=True).tolist() == good


def test_the_events_of_a_frame_come_with_names(path: Path) -> None:
    with open_dataset(path) as dataset:
        events = [event for index in range(len(dataset)) for event in dataset.events(index)]
        assert len(events) == dataset.h5["/sync"].attrs["assigned"]
        event = events[0]
        assert (event.device, event.kind, event.code) in {
            ("keyboard", "press", "a"),
            ("keyboard", "press", "w"),
            ("keyboard", "release", "a"),
            ("keyboard", "release", "w"),
            ("mouse", "move", None),
        }
        assert event.raw == b'{"t":%d}' % event.timestamp_us
        assert {type(value) for value in event.value} == {float}


# ---- what is no dataset -------------------------------------------------------------------------


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such dataset"):
        open_dataset(tmp_path / "data.h5")


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n"])
def test_a_file_that_is_not_hdf5_is_a_dataset_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.h5").write_bytes(content)
    with pytest.raises(DatasetError, match="not a readable HDF5 file"):
        open_dataset(tmp_path / "data.h5")


def test_a_folder_is_a_dataset_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is a folder"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("attrs", "problem"),
    [
        ({}, "is no Playmill dataset"),
        ({"format": "robomimic"}, "is no Playmill dataset"),
        ({"format": "playmill"}, "has schema version none"),
        ({"format": "playmill", "schema_version": 2}, "version 2; this Playmill reads up to 1"),
    ],
)
def test_hdf5_that_is_no_dataset_is_a_dataset_error(
    tmp_path: Path, attrs: dict[str, Any], problem: str
) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.attrs.update(attrs)
    with pytest.raises(DatasetError, match=problem):
        open_dataset(tmp_path / "data.h5")


def test_a_truncated_file_is_a_dataset_error(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DatasetError, match="truncated"):
        open_dataset(path)


def test_a_damaged_chunk_is_a_dataset_error_when_it_is_read(path: Path) -> None:
    with h5py.File(path) as file:
        offset = file["/features/encoder-a"].id.get_chunk_info(1).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 7] ^= 4
    path.write_bytes(data)
    with open_dataset(path) as dataset:
        assert dataset.window(0, 64)["features"].shape == (64, 24)
        with pytest.raises(DatasetError, match="/features/encoder-a is damaged"):
            dataset.window(10, 64)


# ---- processes and threads ----------------------------------------------------------------------


def first_window(dataset: Dataset, start: int) -> np.ndarray:
    return dataset.window(start, 8)["features"]


def test_a_dataset_travels_as_its_path(path: Path) -> None:
    dataset = open_dataset(path)
    dataset.window(0, 4)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 500
    np.testing.assert_array_equal(copy.features()[...], make_matrix())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_every_process_reads_through_a_handle_of_its_own(path: Path, method: str) -> None:
    dataset = open_dataset(path)
    dataset.window(0, 4)
    with multiprocessing.get_context(method).Pool(2) as pool:
        starts = list(range(0, 140, 7))
        windows = pool.starmap(first_window, [(dataset, start) for start in starts])
    for start, features in zip(starts, windows, strict=True):
        np.testing.assert_array_equal(features, make_matrix()[start : start + 8])
    np.testing.assert_array_equal(first_window(dataset, 3), make_matrix()[3:11])


def test_threads_can_share_a_dataset(path: Path) -> None:
    dataset, wrong = open_dataset(path), []

    def read(seed: int) -> None:
        for start in np.random.default_rng(seed).integers(0, 140, 50):
            if not np.array_equal(
                first_window(dataset, int(start)), make_matrix()[start : start + 8]
            ):
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_closed_dataset_opens_again_when_it_is_read(path: Path) -> None:
    dataset = open_dataset(path)
    dataset.close()
    assert dataset.window(0, 4)["features"].shape == (4, 24)


# ---- many sessions ------------------------------------------------------------------------------


def test_a_folder_of_datasets_is_read_as_one(tmp_path: Path) -> None:
    with_keys = write_sessions(tmp_path, [["w", "a"], ["w", "space"], ["w", "a"]])
    datasets = open_folder(with_keys)
    assert repr(datasets) == "Datasets(3 sessions, 330 frames)"
    assert datasets.ep_len.tolist() == [100, 110, 120]
    assert datasets.ep_offset.tolist() == [0, 100, 210]
    assert datasets.key_names == ("a", "space", "w")
    assert [dataset.session_id for dataset in datasets] == ["s-0", "s-1", "s-2"]


def test_no_window_crosses_a_session(tmp_path: Path) -> None:
    datasets = open_folder(write_sessions(tmp_path, [["w"], ["w"]]))
    index = datasets.window_index(40)
    assert index.tolist() == [[0, 0], [0, 40], [1, 0], [1, 40]]
    assert datasets.window_index(111).tolist() == []
    for (session, start), window in zip(index, datasets.windows(40), strict=True):
        np.testing.assert_array_equal(
            window["features"], make_matrix(100 + 10 * session, seed=session)[start : start + 40]
        )


def test_windows_of_all_sessions_have_the_columns_of_all(tmp_path: Path) -> None:
    datasets = open_folder(write_sessions(tmp_path, [["w", "a"], ["space", "w"]]))
    for session, mine in enumerate((["a", "w"], ["space", "w"])):
        held = datasets.window(session, 10, 50, fields=("keys", "keys_any"))["keys"]
        alone = datasets[session].window(10, 50)["keys"]
        assert held.shape == (50, 3)
        columns = [datasets.key_names.index(name) for name in mine]
        np.testing.assert_array_equal(held[:, columns], alone)
        assert held.sum() == alone.sum() > 0


def test_keys_of_several_recorders_share_columns_by_their_code(tmp_path: Path) -> None:
    names = [["w", "shift"], ["w", "W", "keypad-x"]]
    folder = write_sessions(tmp_path, names)
    assert open_folder(folder).key_names == ("W", "keypad-x", "shift", "w")
    datasets = open_folder(folder, w3c_keys=True)
    assert datasets.key_names == ("KeyW", "keypad-x", "shift")
    fields = ("keys", "keys_any", "key_presses", "key_releases")
    for session, dataset in enumerate(datasets):
        alone = dataset.window(0, len(dataset), fields=fields)
        found = datasets.window(session, 0, len(dataset), fields=fields)
        columns = [i for i, name in enumerate(dataset.key_names) if name in ("w", "W")]
        for field in fields:
            together = np.max if field.startswith("keys") else np.sum
            np.testing.assert_array_equal(found[field][:, 0], together(alone[field][:, columns], 1))
            assert found[field].dtype == alone[field].dtype
            assert alone[field][:, columns].any(axis=0).all()


def test_only_so_many_files_are_open_at_a_time(tmp_path: Path) -> None:
    datasets = open_folder(write_sessions(tmp_path, [["w"]] * 4), max_open=2)
    for session in (0, 1, 2, 3, 0, 3, 1):
        datasets.window(session, 0, 10)
    assert sum(dataset.is_open for dataset in datasets._datasets) == 2
    datasets.close()
    assert not any(dataset.is_open for dataset in datasets._datasets)


def test_a_folder_without_datasets_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no session_\*/data\.h5"):
        open_folder(tmp_path)
    with pytest.raises(ValueError, match="give at least one path"):
        Datasets([])


# ---- reading rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [1, 63, 64, 65, 200])
def test_windows_equal_what_hdf5_reads_at_first_and_ever_after(
    tmp_path: Path, num_frames: int
) -> None:
    content = make_content(num_frames)
    path = DataStorage(tmp_path).write(content, features=[make_features(num_frames)])
    expected = make_matrix(num_frames)
    rng = np.random.default_rng(num_frames)
    with open_dataset(path) as dataset:
        for _ in range(100):
            start, stop = sorted(rng.integers(0, num_frames + 1, 2).tolist())
            if start < stop:
                window = dataset.window(start, stop - start, fields=["features"])
                np.testing.assert_array_equal(window["features"], expected[start:stop])


@pytest.mark.parametrize(
    "how", [{"compression": "gzip"}, {"chunks": (10, 12)}, {}, {"chunks": None}]
)
def test_rows_of_any_other_layout_are_read_through_hdf5(tmp_path: Path, how: Any) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        how = {"chunks": (10, 24), "fletcher32": "chunks" not in how or how["chunks"]} | how
        node = file.create_dataset("x", data=make_matrix(55), **{k: v for k, v in how.items() if v})
        reader = RowReader(node)
        for span in ((3, 40), (3, 40), (50, 55)):
            np.testing.assert_array_equal(reader.read(*span), make_matrix(55)[slice(*span)])


def test_a_file_that_is_replaced_while_it_is_open_reads_as_it_was(path: Path) -> None:
    storage = DataStorage(path.parent)
    target = storage.write(make_content(), features=[make_features()])
    dataset = open_dataset(target)
    dataset.window(0, 64)
    storage.write(make_content(dataset_key="key-2"), features=[make_features(seed=3)])
    for start in (0, 70):
        features = dataset.window(start, 64)["features"]
        np.testing.assert_array_equal(features, make_matrix()[start : start + 64])


def test_a_file_that_was_replaced_is_not_opened_again_as_if_it_were_the_same(path: Path) -> None:
    storage = DataStorage(path.parent)
    target = storage.write(make_content(), features=[make_features()])
    dataset = open_dataset(target)
    state = pickle.dumps(dataset)
    dataset.close()
    storage.write(make_content(dataset_key="key-2"), features=[make_features(seed=3)])
    for stale in (dataset, pickle.loads(state)):
        with pytest.raises(DatasetError, match="was replaced while in use"):
            stale.window(0, 64)


def test_a_file_that_shrinks_while_it_is_open_is_a_dataset_error(path: Path) -> None:
    with open_dataset(path) as dataset:
        dataset.window(0, 150)
        with path.open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(DatasetError, match="shorter than it was"):
            dataset.window(0, 150, fields=["features"])
