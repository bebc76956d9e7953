"""The room in a queue is given in turns: to submissions, and within each to its jobs."""

from __future__ import annotations

from collections import Counter, deque
from itertools import zip_longest

import hypothesis.strategies as st
import pytest
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
            if not share.offer(step, submission=1, turn=turn, order=(order,)) and stops:
                break
            assert len(share.picked()) <= max(0, room)
    in_turns = [step for turn in zip_longest(*jobs) for step in turn if step is not None]
    assert share.picked() == in_turns[: max(0, room)]
    assert share.left_over == (len(in_turns) > max(0, room))


@given(
    room=st.integers(0, 12),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    busy=st.lists(st.integers(0, 9), min_size=6, max_size=6),
)
def test_no_submission_gets_more_while_another_has_less(
    room: int, sizes: list[int], busy: list[int]
) -> None:
    share: Share[int] = Share(room)
    for submission, size in enumerate(sizes):
        share.note_busy(busy[submission], submission=submission)
        for order in range(size):
            share.offer(submission, submission=submission, turn=0, order=(order,))
    given_to = Counter(share.picked())
    assert given_to.total() == min(room, sum(sizes))
    has = {n: busy[n] + given_to[n] for n in range(len(sizes))}
    for submission, size in enumerate(sizes):
        if given_to[submission] < size:  # it would have taken more
            assert all(has[submission] >= has[n] - 1 for n in has if given_to[n])


CHUNKS = 3
ROOM, WORKERS = 64, 8


def rounds_until_done(small: int, big: int, *, first: str) -> tuple[int, int]:
    """Refill a queue again and again; return the rounds until the small submission is done.

    Args:
        small, big: recordings of each submission, of CHUNKS chunks.
        first: which of them was submitted first, and is looked through first.
    Returns:
        rounds until the last chunk of the small submission is done, and its chunks.
    """
    sizes = {"small": small, "big": big}
    order = sorted(sizes, key=lambda name: name != first)
    left = {
        (submission, job): list(range(CHUNKS))
        for submission, name in enumerate(order)
        for job in range(sizes[name])
    }
    mine = order.index("small")
    queue: deque[tuple[int, int]] = deque()
    for number in range(10_000):
        waiting = Counter(queue)
        share: Share[tuple[int, int]] = Share(ROOM - len(queue))
        for (submission, job), chunks in left.items():
            turns = waiting[submission, job]
            share.note_busy(turns, submission=submission)
            for turn in range(turns, len(chunks)):
                if not share.offer(
                    (submission, job), submission=submission, turn=turn, order=(job,)
                ):
                    break
        queue.extend(share.picked())
        for _ in range(min(WORKERS, len(queue))):
            done = queue.popleft()
            left[done].pop()
            if not left[done]:
                del left[done]
        if not any(submission == mine for submission, _ in left):
            return number + 1, small * CHUNKS
    raise AssertionError("the small submission is never done")


@pytest.mark.parametrize("first", ["big", "small"])
def test_a_small_submission_gets_its_half_beside_a_backlog_of_10_000(first: str) -> None:
    rounds, chunks = rounds_until_done(20, 10_000, first=first)
    # What waits before it when it comes, then half of all workers.
    assert rounds <= ROOM / WORKERS + chunks / (WORKERS / 2) + 1
