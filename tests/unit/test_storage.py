from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from playmill.dataset import open_dataset
from playmill.errors import DatasetError, SessionConflict
from playmill.inputs.events import InputEvents
from playmill.publishing.publication import LOCK_NAME, Temporary, locked
from playmill.storage import DataStorage, session_folder
from playmill.synchronizer import DataSynchronizer, SyncedData
from playmill.verify import verify
from tests.unit.dataset_samples import (
    make_content,
    make_events,
    make_features,
    make_images,
    make_matrix,
)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def storage(tmp_path: Path) -> DataStorage:
    return DataStorage(tmp_path / "datasets")


@pytest.mark.parametrize(
    ("session_id", "folder"),
    [
        ("doom-640x480", "session_doom-640x480"),
        ("A.b_c-9", "session_A.b_c-9"),
        ("a" * 100, "session_" + "a" * 100),
        ("../../etc", "session_etc-1c2a1a6e"),
        ("path with spaces & ünïcödé", "session_path-with-spaces-n-c-d-b7d0dd04"),
    ],
)
def test_a_safe_id_is_the_folder_name_and_another_becomes_a_slug(
    session_id: str, folder: str
) -> None:
    found = session_folder(session_id)
    digest = hashlib.sha256(session_id.encode()).hexdigest()[:8]
    assert found == (folder if session_id in folder else folder[:-8] + digest)


@pytest.mark.parametrize(
    "session_id",
    ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "a\0b", "x" * 101, "dot.", "\ud800", "録画"],
    ids=ascii,
)
def test_an_unsafe_id_becomes_one_short_plain_folder_name(session_id: str) -> None:
    folder = session_folder(session_id)
    assert folder.isascii()
    assert len(folder) < 110
    assert folder.replace("session_", "").replace("-", "").replace(".", "").isalnum()
    assert session_folder(session_id + "x") != folder


def test_what_is_written_is_read_back(storage: DataStorage) -> None:
    content = make_content()
    path = storage.write(content, features=[make_features()], images=make_images())
    assert path == storage.path("s-1")
    assert verify(path) == []
    with open_dataset(path) as dataset:
        assert dataset.session_id == "s-1"
        assert dataset.metadata == content.metadata
        assert dataset.provenance == content.provenance
        assert dataset.warnings == content.warnings
        np.testing.assert_array_equal(dataset.features("encoder-a")[...], make_matrix())
        np.testing.assert_array_equal(dataset.timestamps_us, content.timestamp_us)
        np.testing.assert_array_equal(dataset.actions("keys"), content.actions.keys)
        assert dataset.images.shape == (150, 6, 8, 3)
    with h5py.File(path) as file:
        assert file["/inputs/codes"].asstr()[...].tolist() == ["a", "w"]
        assert file["/inputs/rejected_reason"].asstr()[...].tolist() == ["not JSON: é", "is empty"]
        assert file["/sync"].attrs["window_ms"] == 100.0
        assert file["/sync"].attrs["duplicates"] == 1


def test_features_are_stored_for_random_windows_and_labels_for_size(storage: DataStorage) -> None:
    path = storage.write(make_content(), features=[make_features()], images=make_images())
    with h5py.File(path) as file:
        features, labels = file["/features/encoder-a"], file["/sync/frame"]
        assert (features.chunks, features.compression) == ((64, 24), None)
        for plain in (features, file["/frames/motion"], file["/frames/image"]):
            assert (plain.compression, plain.shuffle, plain.fletcher32) == (None, False, True)
        assert (labels.compression, labels.shuffle, labels.fletcher32) == ("gzip", True, True)


@pytest.mark.parametrize("num_frames", [1, 2, 64, 65])
def test_an_empty_log_and_few_frames_are_a_valid_file(
    storage: DataStorage, num_frames: int
) -> None:
    content = make_content(num_frames, events=InputEvents.none())
    path = storage.write(content, features=[make_features(num_frames)])
    assert verify(path) == []
    with open_dataset(path) as dataset:
        assert len(dataset) == num_frames
        assert dataset.window(0, num_frames)["keys"].shape == (num_frames, 0)
        assert dataset.events(0) == []


def test_without_features_the_file_is_valid_too(storage: DataStorage) -> None:
    path = storage.write(make_content())
    assert verify(path) == []
    assert open_dataset(path).feature_keys == ()


def test_large_metadata_odd_characters_and_many_names_fit(storage: DataStorage) -> None:
    metadata = {"notes": "x" * 1_000_000, "odd": "a\0b\ud800 ü"}
    events = make_events(range(10**15, 10**15 + 5), keys=[f"key-{i:05d}" for i in range(5000)])
    content = make_content(4, metadata=metadata, session_id="s\0\ud800", events=events)
    path = storage.write(content, features=[make_features(4)])
    assert verify(path) == []
    with open_dataset(path) as dataset:
        assert dataset.metadata == metadata
        assert dataset.session_id == "s\\u0000\\ud800"
        assert len(dataset.key_names) == 5000


def test_the_content_alone_decides_the_bytes(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from playmill.storage import DataStorage\n"
        "from tests.unit.dataset_samples import *\n"
        "storage = DataStorage(pathlib.Path(sys.argv[1]))\n"
        "images = make_images()\n"
        "storage.write(make_content(), features=[make_features(block=int(sys.argv[2]))],"
        " images=images)\n"
    )
    digests = set()
    for run, block in (("one", "150"), ("two", "64")):
        root = Path(__file__).resolve().parents[2]
        command = [sys.executable, "-c", script, str(tmp_path / run), block]
        subprocess.run(command, cwd=root, check=True, timeout=60)
        digests.add(sha256(tmp_path / run / "session_s-1" / "data.h5"))
    assert len(digests) == 1


@pytest.mark.parametrize("how", [{"swmr": True, "libver": "latest"}, {}, {"libver": "earliest"}])
def test_plain_h5py_opens_it_as_other_trainers_do(storage: DataStorage, how: Any) -> None:
    path = storage.write(make_content(), features=[make_features()])
    with h5py.File(path, "r", **how) as file:
        assert file["/features/encoder-a"][10:20].shape == (10, 24)
        assert file.attrs["format"] == "playmill"


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        ([np.zeros((149, 24), np.float16)], "found 149 rows, expected 150"),
        ([np.zeros((100, 24), np.float16)] * 2, "found 200 rows, expected 150"),
        ([np.zeros((150, 23), np.float16)], r"found a block of shape \(150, 23\)"),
        ([np.zeros((150, 24), np.float32)], "float32"),
        ([np.full((150, 24), np.nan, np.float16)], "not finite"),
        ([np.full((150, 24), np.inf, np.float16)], "not finite"),
    ],
    ids=["short", "long", "narrow", "float32", "nan", "inf"],
)
def test_features_that_break_the_format_are_not_published(
    storage: DataStorage, blocks: list[Any], problem: str
) -> None:
    features = make_features()
    object.__setattr__(features, "blocks", blocks)
    with pytest.raises(DatasetError, match=problem):
        storage.write(make_content(), features=[features])
    assert names_in(storage.path("s-1").parent) == set()


def test_content_that_contradicts_itself_is_not_published(storage: DataStorage) -> None:
    content = make_content()
    content = make_content(timestamp_us=content.timestamp_us + 1)
    with pytest.raises(DatasetError, match="by its pts"):
        storage.write(content)
    assert not storage.path("s-1").exists()


# ---- publication --------------------------------------------------------------------------------


def test_the_same_key_is_done_and_reads_no_features(storage: DataStorage) -> None:
    path = storage.write(make_content(), features=[make_features()])
    before = path.stat()
    untouched = make_features(seed=9)
    assert storage.write(make_content(), features=[untouched]) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert next(iter(untouched.blocks)).shape == (37, 24)


def test_another_key_of_the_same_video_replaces_and_keeps_other_encoders(
    storage: DataStorage,
) -> None:
    path = storage.write(make_content(), features=[make_features(), make_features(key="b", seed=2)])
    newer = make_content(dataset_key="key-2", policy="nearest")
    assert storage.write(newer, features=[make_features(seed=5)]) == path
    assert verify(path) == []
    with open_dataset(path) as dataset:
        assert dataset.dataset_key == "key-2"
        assert dataset.h5["/sync"].attrs["policy"] == "nearest"
        assert dataset.feature_keys == ("b", "encoder-a")
        np.testing.assert_array_equal(dataset.features("encoder-a")[...], make_matrix(seed=5))
        np.testing.assert_array_equal(dataset.features("b")[...], make_matrix(seed=2))
        assert dataset.features("b").attrs["encoder"] == "b"
    assert names_in(path.parent) == {"data.h5", LOCK_NAME}


def test_features_of_other_frames_are_not_carried_over(storage: DataStorage) -> None:
    storage.write(make_content(), features=[make_features(key="b")])
    path = storage.write(make_content(140, dataset_key="key-2"), features=[make_features(140)])
    assert open_dataset(path).feature_keys == ("encoder-a",)


def test_damaged_features_are_left_behind_with_a_log_line(
    storage: DataStorage, caplog: pytest.LogCaptureFixture
) -> None:
    path = storage.write(make_content(), features=[make_features(key="b")])
    damage_features(path, "b")
    storage.write(make_content(dataset_key="key-2"), features=[make_features()])
    assert open_dataset(path).feature_keys == ("encoder-a",)
    assert verify(path) == []
    assert "features b are damaged" in caplog.text


def damage_features(path: Path, key: str) -> None:
    with h5py.File(path) as file:
        offset = file[f"/features/{key}"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset + 100)
        byte = raw.read(1)[0]
        raw.seek(offset + 100)
        raw.write(bytes([byte ^ 1]))


def test_another_video_is_a_conflict_that_names_both(storage: DataStorage) -> None:
    path = storage.write(make_content(), features=[make_features()])
    before = sha256(path)
    other = make_content(video="other.mkv", dataset_key="key-2")
    with pytest.raises(SessionConflict, match=r"play\.mp4.*other\.mkv") as raised:
        storage.write(other, features=[make_features()])
    assert str(path) in str(raised.value)
    assert sha256(path) == before


def test_something_that_is_no_dataset_is_never_overwritten(storage: DataStorage) -> None:
    path = storage.path("s-1")
    path.parent.mkdir()
    path.write_text("my notes")
    with pytest.raises(DatasetError, match="not a readable HDF5 file"):
        storage.write(make_content())
    assert path.read_text() == "my notes"


def publish(base: Path, video: str, key: str, seed: int, outcome: Any) -> None:
    try:
        DataStorage(base).write(
            make_content(video=video, dataset_key=key), features=[make_features(seed=seed)]
        )
        outcome.put((video, "published"))
    except SessionConflict:
        outcome.put((video, "conflict"))


def race(base: Path, jobs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    context = multiprocessing.get_context("fork")
    outcome = context.Queue()
    processes = [
        context.Process(target=publish, args=(base, video, key, seed, outcome))
        for seed, (video, key) in enumerate(jobs)
    ]
    for process in processes:
        process.start()
    results = [outcome.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    return results


def test_of_videos_that_race_for_one_name_the_first_wins(tmp_path: Path) -> None:
    videos = [f"video-{i}" for i in range(4)]
    results = race(tmp_path, [(video, f"key-{video}") for video in videos])
    winners = [video for video, how in results if how == "published"]
    path = DataStorage(tmp_path).path("s-1")
    assert [open_dataset(path).provenance["video"]["name"]] == winners
    assert verify(path) == []
    assert names_in(path.parent) <= {"data.h5", LOCK_NAME}


def test_publishers_of_one_video_all_succeed_and_leave_one_whole_file(tmp_path: Path) -> None:
    results = race(tmp_path, [("v", "key-1"), ("v", "key-1"), ("v", "key-2"), ("v", "key-3")])
    assert [how for _, how in results] == ["published"] * 4
    path = DataStorage(tmp_path).path("s-1")
    assert verify(path) == []
    assert names_in(path.parent) <= {"data.h5", LOCK_NAME}


def test_a_reader_sees_nothing_or_a_whole_file_while_it_is_replaced(storage: DataStorage) -> None:
    path = storage.path("s-1")
    stop, problems = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if path.exists():
                problems.extend(verify(path))

    reader = threading.Thread(target=read)
    reader.start()
    for run in range(5):
        content = make_content(30, dataset_key=f"key-{run}")
        storage.write(content, features=[make_features(30, seed=run)])
    stop.set()
    reader.join()
    assert problems == []


DISK_FULL = """
import os, resource, sys, pathlib
from playmill.storage import DataStorage
from tests.unit.dataset_samples import *

storage = DataStorage(pathlib.Path(sys.argv[1]))
target = storage.path("s-1")
if sys.argv[2] == "replace":
    storage.write(make_content(dataset_key="old"), features=[make_features(key="b", dim=512)])
handles = len(os.listdir("/proc/self/fd"))
names = set(os.listdir(target.parent)) if target.exists() else set()
for limit in (0, 1000, 30_000, 100_000, 180_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        storage.write(make_content(), features=[make_features(dim=512)], images=make_images())
    except OSError as error:
        print(limit, type(error).__name__, error.errno)
    assert len(os.listdir("/proc/self/fd")) == handles, "a handle leaked"
    assert set(os.listdir(target.parent)) - {".publish.lock"} == names, "a file is left"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
storage.write(make_content(), features=[make_features(dim=512)], images=make_images())
"""


@pytest.mark.parametrize("start", ["new", "replace"])
def test_a_full_disk_is_an_oserror_and_leaves_nothing_behind(tmp_path: Path, start: str) -> None:
    command = [sys.executable, "-c", DISK_FULL, str(tmp_path), start]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    limits = (0, 1000, 30_000, 100_000, 180_000)
    assert done.stdout.splitlines() == [f"{limit} OSError {errno.EFBIG}" for limit in limits]
    target = tmp_path / "session_s-1" / "data.h5"
    assert open_dataset(target).dataset_key == "key-1"
    assert verify(target) == []


def test_stale_temporaries_are_collected_and_live_ones_are_not(storage: DataStorage) -> None:
    target = storage.path("s-1")
    target.parent.mkdir()
    stale = target.with_name(".data.h5.0123456789abcdef.tmp")
    stale.write_bytes(b"left by a crash")
    with Temporary(target) as alive:
        assert not stale.exists()
        storage.write(make_content())
        assert alive.path.exists()
    assert names_in(target.parent) == {"data.h5"}


def test_without_hard_links_publication_goes_through_the_lock(
    storage: DataStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    path = storage.write(make_content(), features=[make_features()])
    assert verify(path) == []


def test_a_lock_that_is_held_too_long_is_a_timeout(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(TimeoutError, match="locked by another process"),
        locked(tmp_path, wait_s=0.05),
    ):
        pass
    with locked(tmp_path, wait_s=0):
        pass


# ---- the one-item form --------------------------------------------------------------------------


def synced(policy: str = "following", frames: int = 5) -> list[SyncedData]:
    synchronizer = DataSynchronizer(sync_window_ms=100, policy=policy)  # type: ignore[arg-type]
    for i in range(frames):
        synchronizer.add_frame(f"f{i}", 10**15 + i * 33_000, np.full(4, i, np.float32))
    synchronizer.add_input(10**15 + 40_000, {"type": "key_down", "key": "w"})
    synchronizer.add_input(10**15 + 80_000, {"type": "key_up", "key": "w"})
    synchronizer.add_input(10**15 + 50_000, {"type": "mouse_move", "dx": 3, "dy": -1})
    synchronizer.add_input(10**15 + 51_000, {"gesture": "wave", "strength": np.float32(0.5)})
    return synchronizer.sync_data()


@pytest.mark.parametrize("policy", ["following", "preceding", "nearest", "window"])
def test_frames_given_one_by_one_become_a_dataset(storage: DataStorage, policy: str) -> None:
    with storage:
        assert storage.start_session("hand-made", {"game": "pong"}) == "hand-made"
        data = synced(policy)
        storage.save_synced_data(data[3:])
        storage.save_synced_data(data[:3])
        assert not storage.path("hand-made").exists()
    path = storage.path("hand-made")
    assert verify(path) == []
    with open_dataset(path) as dataset:
        assert dataset.metadata == {"game": "pong"}
        assert dataset.h5["/sync"].attrs["policy"] == policy
        assert dataset.warnings == []
        assert dataset.features("features")[:, 0].tolist() == [0, 1, 2, 3, 4]
        assert dataset.provenance["frame_ids"] == ["f0", "f1", "f2", "f3", "f4"]
        assert dataset.key_names == ("w",)
        assert dataset.actions("key_presses").sum() == 1
        for index, item in enumerate(data):
            raws = [event.raw for event in dataset.events(index)]
            assert len(raws) == len(item.inputs)
        kinds = {(e.device, e.kind, e.code, e.value) for i in range(5) for e in dataset.events(i)}
        assert kinds == {
            ("keyboard", "press", "w", (0, 0)),
            ("keyboard", "release", "w", (0, 0)),
            ("mouse", "move", None, (3, -1)),
            ("other", "other", None, (0, 0)),
        }


def test_inputs_without_times_stay_with_their_frames_and_a_warning_says_so(
    storage: DataStorage,
) -> None:
    data = synced("window")
    for item in data:
        item.input_timestamps = []
    storage.start_session("s", {})
    storage.save_synced_data(data)
    path = storage.end_session()
    with open_dataset(path) as dataset:
        assert [len(dataset.events(i)) for i in range(5)] == [len(item.inputs) for item in data]
        assert "time of the frame" in dataset.warnings[0]
    assert verify(path) == []


def test_saving_the_same_frames_again_is_done_and_other_frames_conflict(
    storage: DataStorage,
) -> None:
    for frames in (5, 5, 6):
        storage.start_session("s", {})
        storage.save_synced_data(synced(frames=frames))
        if frames == 6:
            with pytest.raises(SessionConflict, match="another video"):
                storage.end_session()
        else:
            storage.end_session()
    assert len(open_dataset(storage.path("s"))) == 5


def test_an_exception_in_the_with_block_publishes_nothing(storage: DataStorage) -> None:
    def interrupted() -> None:
        with storage:
            storage.start_session("s", {})
            storage.save_synced_data(synced())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert not storage.path("s").exists()


def test_without_a_session_nothing_can_be_saved(storage: DataStorage) -> None:
    with pytest.raises(ValueError, match="No active session"):
        storage.save_synced_data(synced())
    with pytest.raises(ValueError, match="No active session"):
        storage.end_session()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data.clear(), "no frames were saved"),
        (lambda data: data.append(data[0]), "have one time"),
        (lambda data: setattr(data[1], "frame_features", None), "'f1' has no features"),
        (lambda data: setattr(data[1], "frame_features", np.zeros(3)), "'f1' has 3 features"),
    ],
    ids=["none", "same time", "no features", "other length"],
)
def test_frames_that_make_no_dataset_are_refused(
    storage: DataStorage, change: Any, problem: str
) -> None:
    data = synced()
    change(data)
    storage.start_session("s", {})
    storage.save_synced_data(data)
    with pytest.raises(DatasetError, match=problem):
        storage.end_session()


def test_no_empty_folder_of_failures_stays(tmp_path: Path) -> None:
    storage = DataStorage(tmp_path)
    content = make_content()
    kept = storage.keep_failed(content, recording="/r", why="coverage is 0.1")
    other = storage.keep_failed(make_content(session_id="o"), recording="/o", why="the same")
    storage.write(content, features=[make_features()])
    assert (kept.exists(), other.exists()) == (False, True)
    storage.write(make_content(session_id="o"), features=[make_features()])
    assert not other.parent.exists()
    assert storage.keep_failed(make_content(session_id="p"), recording="/p", why="x").exists()
