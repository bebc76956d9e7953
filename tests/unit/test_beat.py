"""The clock: it goes on after a fault, and stops when it is told to."""

from __future__ import annotations

import threading

import pytest
import redis

from workers.beat import every


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
