"""Processes that are started again: how soon, when no more, and what is said of it."""

from __future__ import annotations

import logging
import signal
import sys
import time
from pathlib import Path

import pytest

from workers import supervisor
from workers.processes import MAX_PAUSE_S, MillBroken, Process, pause_s


@pytest.fixture(autouse=True)
def _same_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the test-runner's own handlers alone, and look often."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervisor, "LOOK_S", 0.05)


def process(code: str, tmp_path: Path) -> Process:
    """Return a process that runs some Python."""
    return Process("w", [sys.executable, "-c", code], {}, tmp_path / "log")


def ended(process: Process) -> None:
    """Wait until it has ended."""
    deadline = time.monotonic() + 20
    while process.alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_pause_grows_to_a_bound() -> None:
    assert [pause_s(number) for number in range(1, 6)] == [0, 1, 2, 4, 8]
    assert pause_s(50) == MAX_PAUSE_S


def test_what_dies_is_started_again_at_once_and_then_after_a_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dying = process("import os; os.kill(os.getpid(), 9)", tmp_path)
    dying.start()
    with caplog.at_level(logging.WARNING):
        ended(dying)
        first = dying.running
        dying.revive()
        assert dying.running is not first
        ended(dying)
        second = dying.running
        dying.revive()
        assert dying.running is second
    dying.kill()
    assert caplog.messages == [
        "w has ended (by SIGKILL): started again at once",
        "w has ended (by SIGKILL): started again in 1 s",
    ]


def test_who_has_somebody_waiting_gives_up(tmp_path: Path) -> None:
    dying = process("raise SystemExit(3)", tmp_path)
    dying.start()
    ended(dying)
    dying.revive(give_up_after=2)
    ended(dying)
    with pytest.raises(MillBroken, match=r"w died 2 times in 60 s; its log: .*/log"):
        dying.revive(give_up_after=2)
    dying.kill()


def test_what_was_called_wrongly_is_not_started_again(tmp_path: Path) -> None:
    wrong = process("raise SystemExit(2)", tmp_path)
    other = process("import time; time.sleep(60)", tmp_path)
    assert supervisor.supervise([wrong, other]) == 2
    assert not other.alive()
