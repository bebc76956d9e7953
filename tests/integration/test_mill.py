"""`playmill run`: equal to the serial pipeline, whatever is killed; nothing left behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from playmill import pipeline
from playmill.config import PipelineConfig
from playmill.verify import verify
from tests.integration.support import EXAMPLES, Playmill, descendants, finished

DOOM = EXAMPLES / "doom-640x480"
SHORT = EXAMPLES / "doom-320x240-audio"
CHUNKS = ("--chunk-frames", "200")
CONFIG = PipelineConfig(encoder="mean_pixel", chunk_frames=200)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pipeline.run` makes of the longer example."""
    return pipeline.run(DOOM, tmp_path_factory.mktemp("serial"), CONFIG)


def assert_published(rows: list[dict[str, object]], serial: Path) -> None:
    """Assert that the one row is of a sound dataset, equal to the serial one bit for bit."""
    (row,) = rows
    assert row["state"] == "published", row
    made = Path(str(row["dataset"]))
    assert verify(made) == []
    with h5py.File(made) as file, h5py.File(serial) as expected:
        names: list[str] = []
        expected.visit(names.append)
        for name in names:
            if isinstance(expected[name], h5py.Dataset):
                # Motion is NaN where it is unknown, there and here.
                np.testing.assert_array_equal(file[name][...], expected[name][...], name)
        assert dict(file.attrs) == dict(expected.attrs)
    assert made.read_bytes() == serial.read_bytes()


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_arrays_of_the_serial_pipeline(
    playmill: Playmill, serial: Path, workers: int
) -> None:
    status, rows, err = playmill.run(DOOM, "--workers", workers, *CHUNKS)
    assert status == 0, err
    assert rows[0]["chunks"] == rows[0]["chunks_done"] > 5
    assert_published(rows, serial)


def snapshot(playmill: Playmill) -> dict[str, tuple[int, int]]:
    """Return the files of parts and commits, with what changes when one is written anew."""
    parts = playmill.datasets / ".playmill" / "parts"
    found = {}
    for path in parts.rglob("*"):
        if path.is_file() and path.parent.name != "attempts":
            stat = path.stat()
            found[str(path)] = (stat.st_ino, stat.st_mtime_ns)
    return found


def test_a_second_run_computes_nothing_and_another_policy_needs_no_extraction(
    playmill: Playmill,
) -> None:
    _, first, _ = playmill.run(SHORT)
    features = snapshot(playmill)
    assert any("zarr" in name for name in features)
    made = Path(first[0]["dataset"]).stat().st_mtime_ns
    # The same again: nothing is written, not even an attempt.
    status, _, _ = playmill.run(SHORT)
    assert status == 0
    assert snapshot(playmill) == features
    assert Path(first[0]["dataset"]).stat().st_mtime_ns == made
    # Another policy: only the consolidation.
    status, second, _ = playmill.run(SHORT, "--policy", "nearest")
    assert status == 0
    assert second[0]["job_id"] != first[0]["job_id"]
    assert snapshot(playmill) == features
    with h5py.File(second[0]["dataset"]) as file:
        assert file["sync"].attrs["policy"] == "nearest"
    # And back again: the older job's dataset has been replaced, so it is made anew.
    status, third, _ = playmill.run(SHORT)
    assert status == 0
    assert snapshot(playmill) == features
    with h5py.File(third[0]["dataset"]) as file:
        assert file["sync"].attrs["policy"] == "following"


def test_once_its_parts_are_collected_a_dataset_is_synchronized_anew_from_the_published_file(
    playmill: Playmill,
) -> None:
    _, first, _ = playmill.run(SHORT)
    with h5py.File(first[0]["dataset"]) as file:
        features = file["features/mean_pixel"][...]
    assert "were deleted" in playmill("gc", "--datasets", playmill.datasets).stdout
    assert not [name for name in snapshot(playmill) if "zarr" in name]
    status, rows, err = playmill.run(SHORT, "--policy", "preceding")
    assert status == 0, err
    assert not [name for name in snapshot(playmill) if "zarr" in name]
    assert verify(Path(rows[0]["dataset"])) == []
    with h5py.File(rows[0]["dataset"]) as file:
        assert np.array_equal(file["features/mean_pixel"][...], features)
        assert file["sync"].attrs["policy"] == "preceding"


def wait_for(condition: Callable[[], object], *, timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def commits(playmill: Playmill) -> int:
    return len(list((playmill.datasets / ".playmill").glob("parts/*/commits/[0-9]*.json")))


KILLS: dict[str, Callable[[subprocess.Popen[str]], list[psutil.Process]]] = {
    "redis": lambda run: [p for p in descendants(run, "redis-server") if "redis" in p.name()],
    "the pool child that extracts": lambda run: [
        child
        for child in descendants(run, "spawn_main")
        if any("workers.gpu" in part for part in child.parent().cmdline())
    ],
    "the worker": lambda run: [
        p for p in descendants(run, "workers.gpu") if "celery" in " ".join(p.cmdline())
    ],
    "the decoder": lambda run: descendants(run, "playmill.decoding.child"),
}


@pytest.mark.parametrize("victim", KILLS)
def test_whatever_is_killed_the_dataset_is_that_of_an_undisturbed_run(
    playmill: Playmill, serial: Path, victim: str
) -> None:
    run = playmill.start_run(DOOM, *CHUNKS)
    wait_for(lambda: commits(playmill) >= 1)
    victims = KILLS[victim](run)
    assert victims, f"nothing to kill: {victim}"
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    status, rows, err = finished(run)
    assert status == 0, err
    assert_published(rows, serial)


def test_when_the_command_is_killed_its_processes_are_gone_within_five_seconds_and_a_rerun_resumes(
    playmill: Playmill, serial: Path
) -> None:
    run = playmill.start_run(DOOM, *CHUNKS)
    wait_for(lambda: commits(playmill) >= 2)
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) > 5
    run.kill()
    run.communicate()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    done = {name: stamp for name, stamp in snapshot(playmill).items() if "/commits/" in name}
    status, rows, err = playmill.run(DOOM, *CHUNKS)
    assert status == 0, err
    assert_published(rows, serial)
    after = snapshot(playmill)
    assert {name: after.get(name) for name in done} == done, "a committed chunk was done again"
    chunks = {Path(name).stem for name in done}
    attempts = (playmill.datasets / ".playmill").glob("parts/*/attempts/*")
    begun = {path.name[:6] for path in attempts}
    assert not begun & chunks, "a committed chunk was tried again"


def test_an_interrupt_stops_everything_and_the_same_command_goes_on(
    playmill: Playmill, serial: Path
) -> None:
    run = playmill.start_run(DOOM, *CHUNKS)
    wait_for(lambda: commits(playmill) >= 1)
    children = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGINT)
    status, rows, err = finished(run)
    assert status == 130
    assert "Traceback" not in err
    assert rows[0]["state"] in ("extracting", "consolidating")
    assert not psutil.wait_procs(children, timeout=5)[1]
    status, rows, err = playmill.run(DOOM, *CHUNKS)
    assert status == 0, err
    assert_published(rows, serial)


def test_damaged_parts_are_computed_again_and_never_published(
    playmill: Playmill, serial: Path
) -> None:
    run = playmill.start_run(DOOM, *CHUNKS)
    wait_for(lambda: commits(playmill) >= 4)
    run.kill()
    run.communicate()
    # One bit of each committed part, more of them than consolidation has tries
    markers = sorted((playmill.datasets / ".playmill").glob("parts/*/commits/[0-9]*.json"))
    for marker in markers[1:]:
        attempt = json.loads(marker.read_text())["attempt"]
        part = marker.parents[1] / marker.stem / attempt / "features" / "c.0.0"
        damaged = bytearray(part.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        part.write_bytes(damaged)
    # and a digit of a marker, which stays JSON.
    text = markers[0].read_text()
    markers[0].write_text(text.replace('"pts": [', '"pts": [1'))
    before = snapshot(playmill)
    status, rows, err = playmill.run(DOOM, *CHUNKS)
    assert status == 0, err
    assert_published(rows, serial)
    after = snapshot(playmill)
    assert all(after[str(marker)] != before[str(marker)] for marker in markers)


def test_a_target_that_cannot_be_written_fails_the_job_and_the_next_run_finishes(
    playmill: Playmill, serial: Path
) -> None:
    # Given a file where the session's folder should be
    target = playmill.datasets / "session_dm2-0001-a"
    playmill.datasets.mkdir()
    target.write_text("in the way")
    status, rows, _ = playmill.run(DOOM, *CHUNKS)
    assert status == 1
    assert rows[0]["state"] == "failed"
    assert "session_dm2-0001-a" in rows[0]["error"]
    # When it is gone
    target.unlink()
    before = sorted((playmill.datasets / ".playmill" / "parts").rglob("features"))
    status, rows, err = playmill.run(DOOM, *CHUNKS)
    # Then the parts were still there
    assert status == 0, err
    assert sorted((playmill.datasets / ".playmill" / "parts").rglob("features")) == before
    assert_published(rows, serial)


def test_two_mills_do_not_work_in_one_folder(playmill: Playmill) -> None:
    run = playmill.start_run(DOOM, *CHUNKS)
    wait_for(lambda: (playmill.datasets / ".playmill" / "logs").exists())
    result = playmill("run", SHORT, "--datasets", playmill.datasets)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "another mill works in" in result.stderr
    run.send_signal(signal.SIGINT)
    finished(run)


def test_one_session_id_for_two_videos_fails_naming_both(playmill: Playmill) -> None:
    other = playmill.folder / "other"
    other.mkdir()
    for name in ("inputs.jsonl", "video.mp4"):
        (other / name).write_bytes((SHORT / name).read_bytes())
    session = (SHORT / "session.json").read_text().replace("h-09009", "dm2-0001-a")
    (other / "session.json").write_text(session)
    assert playmill.run(DOOM)[0] == 0
    status, rows, _ = playmill.run(other)
    assert status == 1
    assert rows[0]["state"] == "failed"
    for name in ("doom-640x480", str(other)):
        assert name in rows[0]["error"]


def test_a_bare_video_runs_on_its_own_clock(playmill: Playmill) -> None:
    bare = playmill.folder / "-my recording %d 録画.mp4"
    bare.write_bytes((SHORT / "video.mp4").read_bytes())
    status, rows, err = playmill.run(playmill.folder)
    assert status == 0, err
    assert rows[0]["recording"] == str(bare)
    with h5py.File(rows[0]["dataset"]) as file:
        assert file.attrs["clock"] == "stream"
        assert file["inputs/timestamp_us"].shape == (0,)
    assert any("no input log" in warning for warning in rows[0]["warnings"])


def test_json_rows_have_every_key_in_the_order_of_the_paths(playmill: Playmill) -> None:
    broken = playmill.folder / "broken"
    broken.mkdir()
    (broken / "session.json").write_text("{}")
    status, rows, err = playmill.run(broken, SHORT)
    assert status == 1
    assert [row["recording"] for row in rows] == [str(broken), str(SHORT)]
    assert [row["state"] for row in rows] == ["failed", "published"]
    for one, other in itertools.pairwise(rows):
        assert one.keys() == other.keys()
    assert "Traceback" not in err
