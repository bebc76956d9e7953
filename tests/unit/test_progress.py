"""Progress: recordings are told apart, and the rate holds still between two chunks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from tests.unit.test_jobs import JOB, facts
from workers import progress as module
from workers.progress import ProgressView, names_of


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["m/rec/a/video.mp4", "m/rec/b/video.mp4"], ["rec/a/video.mp4", "rec/b/video.mp4"]),
        (["m/rec/a/video.mp4"], ["a/video.mp4"]),
        (["m/rec/session"], ["rec/session"]),
        (["m/x.mp4", "other/x.mp4"], ["m/x.mp4", "other/x.mp4"]),
        ([], []),
    ],
)
def test_names_tell_recordings_apart(paths: list[str], names: list[str]) -> None:
    jobs = {str(number): path for number, path in enumerate(paths)}
    assert list(names_of(jobs).values()) == names


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what sets the time."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_the_rate_is_taken_where_a_chunk_ends_and_stays(clock: Callable[[float], None]) -> None:
    view = ProgressView({JOB: "a"}, Console(file=io.StringIO()))
    begun = facts()
    chunks = begun.plan.chunk_frames if begun.plan else ()
    with view:
        view.update([begun])
        assert view.detail() == "0/1 recording"
        clock(10.0)
        view.update([replace(begun, committed=frozenset({0}))])
        rate = f", {chunks[0] / 10:.1f} frames/s, "
        assert rate in view.detail()
        clock(15.0)
        view.update([replace(begun, committed=frozenset({0}))])
        assert rate in view.detail()


def test_where_no_bar_shows_it_the_sum_is_said_every_minute(
    clock: Callable[[float], None],
) -> None:
    out = io.StringIO()
    with ProgressView({JOB: "a"}, Console(file=out)) as view:
        for seconds in (0.0, 59.0, 60.0, 100.0, 119.0, 121.0):
            clock(seconds)
            view.update([facts()])
    sums = [line for line in out.getvalue().splitlines() if "0/1 recording" in line]
    assert len(sums) == 2
    assert re.fullmatch(r"\d\d:\d\d:\d\d 0/1 recording", sums[0])


def test_waiting_in_line_is_not_worth_a_line() -> None:
    out = io.StringIO()
    with ProgressView({JOB: "a"}, Console(file=out)) as view:
        view.update([replace(facts(), plan=None)])
    assert "a: " not in out.getvalue()


@pytest.mark.parametrize("with_reasons", [True, False])
def test_a_reason_is_for_commands_that_print_no_result(with_reasons: bool) -> None:
    out = io.StringIO()
    with ProgressView({JOB: "a"}, Console(file=out), with_reasons=with_reasons) as view:
        view.update([replace(facts(), failed="no video in it")])
    assert "a: failed" in out.getvalue()
    assert ("no video in it" in out.getvalue()) == with_reasons
