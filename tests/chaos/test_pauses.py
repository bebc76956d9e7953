"""A process that is paused past its lease and wakes again changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.checks import assert_a_pause_changes_nothing
from tests.chaos.mill import Mill

NAMES = (
    *("ingest:before-manifest", "extract:batch-written", "extract:before-commit"),
    *("extract:after-commit", "publish:features-written", "publish:before-link"),
    *("publish:after-link", "consolidate:before-marker"),
)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """A mill whose workers stop where they are told to."""
    folder = tmp_path_factory.mktemp("mill")
    with Mill(folder, failpoints=[f"{name}:stop:1" for name in NAMES]) as mill:
        yield mill


@pytest.mark.parametrize("name", NAMES)
def test_one_who_slept_past_his_lease_and_wakes_changes_nothing(
    mill: Mill, tmp_path: Path, name: str
) -> None:
    assert_a_pause_changes_nothing(mill, tmp_path, name, number=next(_numbers))
