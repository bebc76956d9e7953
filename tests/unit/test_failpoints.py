"""Failpoints: nothing unless armed, so many times in all processes, and all of them are tested."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from playmill import failpoints
from playmill.errors import UsageError
from playmill.failpoints import Failpoint
from tasks.settings import armed_failpoints
from tests.chaos.failpoint_names import NAMES, NIGHTLY, REPLACING

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_a_failpoint_that_is_not_armed_does_nothing() -> None:
    failpoints.reached("extract:before-commit")


def test_an_armed_failpoint_happens_as_often_as_it_was_armed_for() -> None:
    Failpoint.parse("extract:before-commit:error:2").arm()
    for _ in range(2):
        with pytest.raises(OSError, match="failpoint extract:before-commit"):
            failpoints.reached("extract:before-commit")
    failpoints.reached("extract:before-commit")
    failpoints.reached("extract:after-commit")


def test_times_are_counted_for_all_processes_together(tmp_path: Path) -> None:
    one, other = (Failpoint.parse("a:b:error:3", tmp_path) for _ in range(2))
    assert [one.take(), other.take(), one.take(), other.take(), one.take()] == [True] * 3 + [
        False
    ] * 2


@pytest.mark.parametrize(("action", "status"), [("kill9", -9), ("error", 1), ("sleep=0.01", 0)])
def test_an_action_happens_to_the_process_that_reaches_it(action: str, status: int) -> None:
    code = (
        "from playmill import failpoints\n"
        f"failpoints.Failpoint.parse('here:{action}').arm()\n"
        "failpoints.reached('here')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True)
    assert done.returncode == status


def test_the_environment_lists_failpoints(tmp_path: Path) -> None:
    env = {
        "PLAYMILL_FAILPOINT": "extract:begun:kill9,publish:before-link:sleep=1.5:4",
        "PLAYMILL_FAILPOINT_DIR": str(tmp_path),
    }
    assert armed_failpoints(env) == [
        Failpoint("extract:begun", "kill9", 1, tmp_path),
        Failpoint("publish:before-link", "sleep=1.5", 4, tmp_path),
    ]
    assert armed_failpoints({}) == []


@pytest.mark.parametrize("text", ["here", "here:kill8", "here:sleep", "here:sleep=x", "kill9:1"])
def test_what_is_no_failpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"PLAYMILL_FAILPOINT: .* is no failpoint"):
        armed_failpoints({"PLAYMILL_FAILPOINT": text})


def test_every_failpoint_of_the_code_is_in_the_matrix() -> None:
    found: set[str] = set()
    for folder in ("playmill", "tasks"):
        for path in (PROJECT / folder).rglob("*.py"):
            names = re.findall(r'failpoints\.reached\(f?"(.*?)"\)', path.read_text())
            for name in names:
                verbs = ("ingest", "extract", "consolidate")
                found |= {name.replace("{step.verb}", verb) for verb in verbs}
    assert found == {*NAMES, *REPLACING, *NIGHTLY}
