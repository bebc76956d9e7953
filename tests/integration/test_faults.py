"""Some of what `make chaos` proves, quick enough for every change: real kills, real Redis."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.checks import (
    TIMES,
    assert_a_pause_changes_nothing,
    assert_killed_twice_is_harmless,
)
from tests.chaos.mill import Mill, kill9, make_recordings, undisturbed

KILLED = (
    *("ingest:before-manifest", "extract:batch-written", "extract:after-commit"),
    *("publish:features-written", "publish:after-link", "consolidate:before-marker"),
)
PAUSED = ("extract:before-commit", "publish:before-link")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """A mill whose workers die or stop where they are told to."""
    kills = [f"{name}:kill9:{TIMES}" for name in KILLED]
    pauses = [f"{name}:stop:1" for name in PAUSED]
    with Mill(tmp_path_factory.mktemp("mill"), failpoints=kills + pauses) as mill:
        yield mill


@pytest.mark.parametrize("name", KILLED)
def test_killed_twice_at_a_step_a_job_is_published_as_if_nothing_had_been(
    mill: Mill, tmp_path: Path, name: str
) -> None:
    assert_killed_twice_is_harmless(mill, tmp_path, name, number=next(_numbers))


@pytest.mark.parametrize("name", PAUSED)
def test_one_who_slept_past_his_lease_and_wakes_changes_nothing(
    mill: Mill, tmp_path: Path, name: str
) -> None:
    assert_a_pause_changes_nothing(mill, tmp_path, name, number=next(_numbers))


def test_a_mill_that_loses_everything_but_its_store_goes_on(mill: Mill, tmp_path: Path) -> None:
    # Given recordings that are worked on
    recordings = make_recordings(tmp_path / "in", 3, first=2000, seconds=4)
    expected = {path.name: undisturbed(path, tmp_path / "serial") for path in recordings}
    jobs = [mill.submit(path) for path in recordings]
    mill.wait_for(lambda: any(mill.store.manifest(job.job_id) for job in jobs))
    # When Redis, beat and everybody who works dies, and nothing is left of the queue
    for child in (*mill.pool_children("gpu").values(), *mill.pool_children("cpu").values()):
        kill9(child)
    with mill.without("redis"):
        mill.kill("beat")
        mill.kill("gpu0")
        mill.kill("cpu0")
        time.sleep(1)
    # Then all are published
    mill.wait(jobs)
    for job in jobs:
        assert mill.dataset(job).read_bytes() == expected[job.recording.name]
