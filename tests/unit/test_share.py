"""The room in a queue is given in turns, and what is held is never more than that."""

from __future__ import annotations

from itertools import zip_longest

import hypothesis.strategies as st
from hypothesis import given

from tasks.share import Share


@given(room=st.integers(-2, 12), sizes=st.lists(st.integers(0, 9), max_size=8), stops=st.booleans())
def test_every_job_gets_a_step_before_any_gets_another(
    room: int, sizes: list[int], stops: bool
) -> None:
    jobs = [[(order, turn) for turn in range(size)] for order, size in enumerate(sizes)]
    share: Share[tuple[int, int]] = Share(room)
    for order, steps in enumerate(jobs):
        for turn, step in enumerate(steps):
            if not share.offer(step, turn=turn, order=order) and stops:
                break
            assert len(share.picked()) <= max(0, room)
    in_turns = [step for turn in zip_longest(*jobs) for step in turn if step is not None]
    assert share.picked() == in_turns[: max(0, room)]
    assert share.left_over == (len(in_turns) > max(0, room))
