"""A full disk: nothing half-written gets a name, and the job goes on once there is room."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from playmill.store.identity import begin
from tests.chaos.failpoint_names import NAMES
from tests.chaos.mill import Mill, make_recordings, undisturbed

SIZE_KB = 4096
ROOM_KB = (0, 16, 64)
"""Room that is left on the disk when the work begins, none of which is enough."""
WAIT_S = 5.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KB}k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"no disk can be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, leaving_kb: int) -> Path:
    """Fill a disk but for a little."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    size = room.f_bavail * room.f_frsize - leaving_kb * 1024
    with ballast.open("wb") as stream:
        stream.write(bytes(size))
    return ballast


@pytest.mark.timeout(280)
@pytest.mark.parametrize("full", ["datasets", "store"])
def test_a_full_disk_leaves_no_target_and_the_job_ends_well_once_there_is_room(
    tmp_path: Path, disk: Path, full: str
) -> None:
    recordings = make_recordings(tmp_path / "in", len(ROOM_KB), seconds=2)
    expected = {path.name: undisturbed(path, tmp_path / "serial") for path in recordings}
    folder = disk / full
    mill = Mill(
        tmp_path / "mill",
        datasets_folder=folder if full == "datasets" else None,
        store_folder=folder if full == "store" else None,
    )
    begin(mill.settings.store, mill.settings.datasets)
    with mill:
        for recording, room_kb in zip(recordings, ROOM_KB, strict=True):
            # Given a job, and a disk that is full but for a little
            if full == "store":
                # The request is there; nothing else can be written.
                job = mill.submit(recording)
                ballast = fill(disk, leaving_kb=room_kb)
            else:
                ballast = fill(disk, leaving_kb=room_kb)
                job = mill.submit(recording)
            # When it has been tried as often as it may, or for a while where nothing can be noted
            target = mill.settings.datasets / f"session_{recording.name}" / "data.h5"
            if full == "datasets":
                mill.wait([job])
            else:
                time.sleep(WAIT_S)
            if mill.ending(job) != "published":
                assert not target.exists()
            state = mill.ending(job)
            print(f"{full}, {room_kb} KB: {state or 'waits'} {mill.reason(job)}")
            if state == "failed":
                assert "No space left on device" in mill.reason(job)
            # Then it is published once there is room, and somebody asks for it
            ballast.unlink()
            if state == "failed":
                mill.store.forget_attempts(job.job_id)
            mill.wait([job])
            if mill.ending(job) == "failed":
                assert "No space left on device" in mill.reason(job)
                mill.store.forget_attempts(job.job_id)
                mill.wait([job])
            path = mill.dataset(job)
            assert path == target
            assert path.read_bytes() == expected[recording.name]
            mill.wait_for(lambda path=path: not list(path.parent.glob(".data.h5.*")), timeout_s=2)


OUTSIDE = ("received", "leased", "begun", "released", "advanced")
"""Before and after the work of a try: nothing there turns an error into a failed try."""
FAILING = [
    name
    for name in NAMES
    if not name.startswith("ingest") and name.partition(":")[2] not in OUTSIDE
]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """A mill in which each step can be told to fail."""
    folder = tmp_path_factory.mktemp("mill")
    with Mill(folder, failpoints=[f"{name}:error:1" for name in FAILING]) as mill:
        yield mill


@pytest.mark.timeout(280)
def test_a_disk_that_is_full_for_a_moment_at_any_step_costs_a_try(
    failing: Mill, tmp_path: Path
) -> None:
    recordings = make_recordings(tmp_path / "in", len(FAILING))
    expected = {path.name: undisturbed(path, tmp_path / "serial") for path in recordings}
    jobs = []
    for name, recording in zip(FAILING, recordings, strict=True):
        (mark,) = failing.ready(f"{name}:error:1", 1)
        jobs.append(failing.submit(recording))
        failing.wait_for(mark.exists)
    failing.wait(jobs)
    failing.assert_right(expected, jobs)
