"""What is down, followed through a log stretch by stretch, against a set of names."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playmill import synchronizer
from playmill.alignment.switches import SwitchReader, unknown_until
from playmill.inputs import InputEvents
from tests.unit.event_samples import Event, key, log_of

CODES = 140
"""More than two words of 64 bits."""


def log_with_codes(events: list[Event]) -> InputEvents:
    """The events, in a log that has all the codes: one more press of each at the end."""
    return log_of([*events, *(key(99, "press", f"{code:03}") for code in range(CODES))])


many_switches = st.builds(
    key,
    st.integers(0, 60),
    st.sampled_from(["press", "release", "other"]),
    st.sampled_from([0, 1, 63, 64, 127, 128, CODES - 1]).map("{:03}".format),
)


@given(events=st.lists(many_switches, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_is_down_after_each_event_of_many_codes(events, cuts) -> None:
    log = log_with_codes(events)
    reader = SwitchReader(log, np.arange(CODES)[::-1].copy())
    edges = sorted({0, *(min(cut, len(log)) for cut in cuts), len(log)})
    down: set[int] = set()
    for start, stop in pairwise(edges):
        got = reader.read(start, stop)
        table = got.down(np.arange(stop - start + 1), CODES)
        for place, event in enumerate(range(start, stop)):
            code, before = int(log.code[event]), set(down)
            if log.kind[event] == 0:
                down.add(code)
            elif log.kind[event] == 1:
                down.discard(code)
            assert np.flatnonzero(table[place + 1][::-1]).tolist() == sorted(down)
            assert bool(got.changed[place]) == (before != down)


def test_a_stretch_may_begin_within_the_last_one() -> None:
    log = log_of([key(1, "press"), key(2, "release"), key(3, "press", "a")])
    reader = SwitchReader(log, np.arange(2))
    reader.read(0, 2)
    again = reader.read(1, 3)
    assert again.down(np.arange(3), 2).tolist() == [[0, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize("block", [1, 2, 100])
def test_state_is_unknown_until_the_last_first_release(monkeypatch, block) -> None:
    monkeypatch.setattr(synchronizer, "BLOCK_EVENTS", block)
    log = log_of(
        [
            key(1, "press", "a"),
            key(2, "release", "b"),
            key(3, "release", "a"),
            (4, "keyboard", "state", "c", (0, 0)),
            key(5, "release", "c"),
            (6, "mouse", "move", None, (1, 1)),
        ]
    )
    assert unknown_until(log) == 2
    assert unknown_until(InputEvents.none()) == 0
