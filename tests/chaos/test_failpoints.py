"""kill -9 at every step, twice over one job: always published, equal to the undisturbed dataset."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.checks import TIMES, assert_killed_twice_is_harmless
from tests.chaos.failpoint_names import NAMES
from tests.chaos.mill import Mill

_numbers = itertools.count()
_seconds: list[float] = []


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """One mill for the whole matrix, in which every failpoint is spent until its turn comes."""
    folder = tmp_path_factory.mktemp("mill")
    with Mill(folder, failpoints=[f"{name}:kill9:{TIMES}" for name in NAMES]) as mill:
        yield mill
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
    _seconds.extend(assert_killed_twice_is_harmless(mill, tmp_path, name, number=next(_numbers)))
