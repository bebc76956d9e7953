"""Publication by many at once, under readers, under kill -9: a file that exists is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from playmill.dataset import open_dataset
from playmill.verify import verify
from tests.chaos import publisher
from tests.chaos.failpoint_names import NAMES, REPLACING
from tests.chaos.mill import Mill, make_recordings, undisturbed

PROJECT = Path(__file__).resolve().parents[2]
NUM_PUBLICATIONS = 100


def start(
    module: str, *arguments: object, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, **(env or {})},
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> int:
    with process:
        _, err = process.communicate(timeout=60)
    if process.returncode > 0:
        pytest.fail(err)
    return process.returncode


def temporaries(path: Path) -> list[Path]:
    return list(path.parent.glob(".data.h5.*"))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A published dataset, number 0."""
    return publisher.publish(tmp_path, 0)


def same_as(path: Path, number: int, folder: Path) -> bool:
    """Say whether `path` has the bytes of dataset `number` published undisturbed."""
    return path.read_bytes() == publisher.publish(folder / f"alone-{number}", number).read_bytes()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("publish")])
def test_killed_while_publishing_nothing_or_the_whole_file_is_there(
    tmp_path: Path, name: str
) -> None:
    datasets = tmp_path / "datasets"
    env = {"PLAYMILL_FAILPOINT": f"{name}:kill9"}
    assert end(start("tests.chaos.publisher", datasets, 0, 1, env=env)) == -signal.SIGKILL
    path = datasets / "session_s-1" / "data.h5"
    assert path.exists() == (name == "publish:after-link")
    assert not path.exists() or verify(path) == []
    assert end(start("tests.chaos.publisher", datasets, 0, 1)) == 0
    assert same_as(path, 0, tmp_path)
    # What the dead one left is collected by the next who publishes anything new there.
    publisher.publish(datasets, 1)
    assert not temporaries(path)


@pytest.mark.parametrize("name", [*REPLACING, "publish:file-created", "publish:file-closed"])
def test_killed_while_replacing_the_old_or_the_new_file_is_there(
    tmp_path: Path, first: Path, name: str
) -> None:
    env = {"PLAYMILL_FAILPOINT": f"{name}:kill9"}
    assert end(start("tests.chaos.publisher", tmp_path, 1, 2, env=env)) == -signal.SIGKILL
    assert same_as(first, int(name == "publish:after-replace"), tmp_path)
    assert end(start("tests.chaos.publisher", tmp_path, 1, 3)) == 0
    assert same_as(first, 2, tmp_path)
    assert not temporaries(first)


def test_of_many_who_publish_different_keys_one_whole_file_is_left(tmp_path: Path) -> None:
    go = tmp_path / "go"
    publishers = [start("tests.chaos.publisher", tmp_path, n, n + 3, go) for n in range(8)]
    time.sleep(2.5)
    go.touch()
    assert [end(process) for process in publishers] == [0] * 8
    path = tmp_path / "session_s-1" / "data.h5"
    assert verify(path) == []
    assert not temporaries(path)
    with open_dataset(path) as dataset:
        number = int(dataset.dataset_key.removeprefix("key-"))
    assert same_as(path, number, tmp_path)


def test_a_reader_never_sees_a_broken_file_while_it_is_replaced(
    tmp_path: Path, first: Path
) -> None:
    process = start("tests.chaos.publisher", tmp_path, 1, NUM_PUBLICATIONS + 1)
    seen: list[int] = []
    while process.poll() is None:
        with open_dataset(first) as dataset:
            number = int(dataset.dataset_key.removeprefix("key-"))
            rows = dataset.features("encoder-a")[...]
        with h5py.File(first) as file:
            assert len(file["/frames/pts"]) == len(rows) == 150
        assert np.array_equal(rows, np.concatenate(list(publisher.make_features().blocks)))
        seen.append(number)
    assert end(process) == 0
    # Replacements are seen in their order, and many of them.
    assert seen == sorted(seen)
    assert len(set(seen)) > 10
    print(f"{len(seen)} readings saw {len(set(seen))} of {NUM_PUBLICATIONS} publications")
    assert same_as(first, NUM_PUBLICATIONS, tmp_path)


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replacement"])
def test_eight_consolidations_at_once_leave_one_right_file(tmp_path: Path, replaces: bool) -> None:
    (recording,) = make_recordings(tmp_path / "in", 1, seconds=3)
    expected = undisturbed(recording, tmp_path / "serial")
    # Given a job all of whose parts are there, and which is not published
    with Mill(tmp_path / "mill", num_gpu=1, num_cpu=1) as mill:
        job = mill.submit(recording)
        mill.wait([job])
        path = mill.dataset(job)
    mill.store.unpublish(job.job_id)
    if replaces:
        with h5py.File(path, "r+") as file:
            file.attrs["dataset_key"] = "another"
    else:
        path.unlink()
    # When eight consolidate it at once
    go = tmp_path / "go"
    env = mill.settings.to_env()
    processes = [start("tests.chaos.consolidator", job.job_id, go, env=env) for _ in range(8)]
    time.sleep(4)
    go.touch()
    # Then none fails, and one right file is there
    assert [end(process) for process in processes] == [0] * 8
    assert path.read_bytes() == expected
    assert sorted(file.name for file in path.parent.iterdir() if file.name != ".publish.lock") == [
        "alignment.json",
        "data.h5",
    ]
    assert mill.store.ending(job.job_id, "published") is not None
