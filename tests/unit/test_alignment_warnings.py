"""A dataset whose events lack frames, or whose rows are not valid, says so, why, and what helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from playmill.alignment.report import alignment_report
from playmill.alignment.warnings import alignment_warnings
from playmill.inputs.events import InputEvents
from tests.unit.event_samples import key, log_of
from tests.unit.test_alignment_report import inputs_of, move

FRAMES = [133_333 * number for number in range(60)]
"""Stills at 7.5 frames a second."""
EVENTS = [move(time) for time in range(1_000, FRAMES[-1], 9_973)]


def warnings_of(
    frames: list[int] = FRAMES,
    log: InputEvents | None = None,
    policy: str = "following",
    window: int | None = 100_000,
    **more: Any,
) -> list[str]:
    log = log_of(EVENTS) if log is None else log
    report = alignment_report(*inputs_of(frames, log, policy, window, **more))
    return alignment_warnings(report, policy=policy, window_us=window)


def test_a_window_narrower_than_frames_are_apart_is_warned_of() -> None:
    assert warnings_of() == [
        "198 of 789 events within the video have no frame and 0 of 60 rows of /actions are valid:"
        " frames are 133.3 ms apart (median), the window is 100 ms. Give --window-ms 240; for a"
        " dataset that is published: playmill resync FILE --window-ms 240"
    ]


@pytest.mark.parametrize("policy", ["following", "preceding", "nearest"])
def test_the_window_that_is_advised_helps(policy: str) -> None:
    assert warnings_of(policy=policy, window=240_000) == []
    assert warnings_of(policy=policy, window=None) == []


def test_nearest_reaches_to_both_sides() -> None:
    assert warnings_of(policy="nearest") == []
    (warning,) = warnings_of(policy="nearest", window=60_000)
    assert "and 0 of 60 rows" in warning


def test_the_first_rule_is_not_widened() -> None:
    (warning,) = warnings_of(policy="window", window=50_000)
    assert "Give --policy following --window-ms 240;" in warning


def test_rows_that_are_not_valid_are_warned_of_though_every_event_has_a_frame() -> None:
    (warning,) = warnings_of(log=log_of([move(time + 5_000) for time in FRAMES[:-1]]))
    assert warning.startswith("0 of 60 rows of /actions are valid: frames are 133.3 ms apart")


def test_a_stray_event_is_not_worth_a_warning() -> None:
    frames = [50_000 * number for number in range(400)]
    frames[200:] = [time + 35_000 for time in frames[200:]]  # late, and no gap
    log = log_of([move(time) for time in range(0, frames[-1], 9_973)])
    lost = alignment_report(*inputs_of(frames, log, "following", 60_000))["unassigned"]
    assert 0 < lost < 0.01 * len(log)
    assert warnings_of(frames, log, window=60_000) == []


def test_gaps_are_told_from_a_window_that_is_too_narrow() -> None:
    frames = [time + (3_000_000 if number >= 30 else 0) for number, time in enumerate(FRAMES)]
    log = log_of([move(time) for time in range(0, frames[-1], 9_973)])
    (warning,) = warnings_of(frames, log, window=140_000, gaps=(30,))
    assert "have no frame: they lie in gaps between frames, 28.8% of the time." in warning
    assert "--window-ms none" in warning
    assert "apart" not in warning
    short = [time + (300_000 if number >= 30 else 0) for number, time in enumerate(FRAMES)]
    log = log_of([move(time) for time in range(0, short[-1], 9_973)])
    assert warnings_of(short, log, window=140_000, gaps=(30,)) == []


def test_state_that_is_not_known_is_told_from_a_window_that_is_too_narrow() -> None:
    log = log_of([*EVENTS, key(FRAMES[-2], "release")])
    (warning,) = warnings_of(log=log, window=None)
    assert warning.startswith("0 of 60 rows of /actions are valid: of the others it is not known")
    assert "window" not in warning


@pytest.mark.parametrize("frames", [[0], [0, 133_333]], ids=["one frame", "two frames"])
def test_what_is_too_short_to_judge_is_not_judged(frames: list[int]) -> None:
    assert warnings_of(frames, log_of([move(5)]), window=None) == []


def test_without_events_there_is_nothing_to_warn_of() -> None:
    assert warnings_of(log=InputEvents.none()) == []


def test_lines_have_no_window() -> None:
    log = log_of([move(time) for time in np.array(FRAMES).tolist()])
    assert warnings_of(log=log, policy="line", window=0) == []
