"""kill -9 at every step, twice over one job: always published, equal to the undisturbed dataset."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.failpoint_names import NAMES
from tests.chaos.mill import Mill, make_recordings, undisturbed

TIMES = 2
_numbers = itertools.count()
_seconds: list[float] = []


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """One mill for the whole matrix, in which every failpoint is spent until its turn comes."""
    folder = tmp_path_factory.mktemp("mill")
    with Mill(folder, failpoints=[f"{name}:kill9:{TIMES}" for name in NAMES]) as mill:
        yield mill
    (folder / "seconds.json").write_text(json.dumps(_seconds))
    if _seconds:
        print(
            f"\nfrom a kill to the step running again: median {statistics.median(_seconds):.1f} s,"
            f" most {max(_seconds):.1f} s ({len(_seconds)} kills, lease {mill.lease_s:g} s,"
            f" reconcile {mill.reconcile_s:g} s)"
        )


@pytest.mark.parametrize("name", NAMES)
def test_killed_twice_at_a_step_a_job_is_published_as_if_nothing_had_been(
    mill: Mill, tmp_path: Path, name: str
) -> None:
    # Given a recording of one chunk, so that both kills hit the same step
    (recording,) = make_recordings(tmp_path, 1, first=next(_numbers))
    expected = undisturbed(recording, tmp_path / "serial")
    # When the process that reaches the step dies, and the one after it too
    marks = mill.ready(f"{name}:kill9:{TIMES}", TIMES)
    try:
        job = mill.submit(recording)
        mill.wait([job])
        # What comes after the end is reached a moment later, and once: nobody comes again.
        mill.wait_for(marks[0].exists, timeout_s=10)
        killed_s = [mark.stat().st_mtime for mark in marks if mark.exists()]
    finally:
        mill.spend(f"{name}:kill9:{TIMES}")
    # Then
    path = mill.dataset(job)
    assert path.read_bytes() == expected
    # A temporary name of the published file itself costs nothing, and goes with the next one.
    left = list(path.parent.glob(".data.h5.*"))
    assert all(file.samefile(path) for file in left), left
    tries = mill.tries(job)
    for killed in killed_s:
        later = [attempt["started_s"] for attempt in tries if attempt["started_s"] > killed]
        if later and name.partition(":")[2] not in ("released", "advanced"):
            _seconds.append(later[0] - killed)
