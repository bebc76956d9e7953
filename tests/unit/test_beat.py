"""The clock: it goes on after a fault, and stops when it is told to."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import redis

from playmill.store import Store
from tasks import broker
from workers import beat
from workers.beat import Reconciler, every, run


@pytest.mark.parametrize("fault", [redis.ConnectionError("away"), OSError("full")], ids=repr)
def test_a_fault_is_waited_for(fault: Exception) -> None:
    stopped = threading.Event()
    seen: list[int] = []

    def work() -> None:
        seen.append(len(seen))
        if len(seen) == 3:
            stopped.set()
        raise fault

    every(0.001, work, stopped)
    assert seen == [0, 1, 2]


def test_a_bug_is_not_hidden() -> None:
    def work() -> None:
        raise AssertionError("a bug")

    with pytest.raises(AssertionError, match="a bug"):
        every(0.001, work, threading.Event())


def test_a_clock_that_was_stopped_does_nothing() -> None:
    stopped = threading.Event()
    stopped.set()
    every(0.001, lambda: pytest.fail("it ticked"), stopped)


def bug() -> None:
    raise AssertionError("a bug")


@pytest.mark.parametrize("buggy", ["nightly", "reconciling"])
def test_a_bug_in_one_of_its_works_ends_the_other_and_beat(buggy: str) -> None:
    stopped = threading.Event()
    works = {name: stopped.wait for name in ("nightly", "reconciling")} | {buggy: bug}
    assert run(stopped, **works) == 1
    assert stopped.is_set()


def test_a_clock_that_was_told_to_stop_ends_well() -> None:
    stopped = threading.Event()
    assert run(stopped, nightly=stopped.wait, reconciling=stopped.set) == 0


LINE = ("extract-cpu", "extract")


@pytest.mark.parametrize(
    ("wanting", "hungry", "expected"),
    [(set(), True, 1), ({LINE}, False, 1), ({LINE}, True, 2)],
    ids=["nothing left to send", "enough waits", "workers will want for work"],
)
def test_it_comes_early_only_for_a_queue_that_runs_low_and_can_be_filled(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wanting: set[tuple[str, str]],
    hungry: bool,
    expected: int,
) -> None:
    done: list[Store] = []

    def reconcile(store: Store) -> tuple[int, set[tuple[str, str]]]:
        done.append(store)
        return 1, wanting

    monkeypatch.setattr(beat, "reconcile", reconcile)
    monkeypatch.setattr(beat, "REST", 0.0)
    monkeypatch.setattr(broker, "hungry", lambda *line: hungry and line == LINE)
    reconciler = Reconciler(Store(tmp_path), period_s=1000.0)
    for _ in range(2):
        reconciler.look()
    assert len(done) == expected
    monkeypatch.setattr(beat, "REST", 1e9)
    reconciler.look()
    reconciler.look()
    assert len(done) <= expected + 1
