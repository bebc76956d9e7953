"""Share: the room in a queue, given to submissions in turns, and within each to its jobs."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Generic, TypeVar

T = TypeVar("T")


class Share(Generic[T]):
    """Gives room to whoever has least in the queue already, until it is taken.

    That goes for submissions, and within one for its jobs; among equals the older is first. Of
    however many steps it is offered, it keeps no more of a submission than there is room for.
    """

    def __init__(self, room: int) -> None:
        self.room = max(0, room)
        self._turns: dict[int, _Turns[T]] = {}
        self._busy: Counter[int] = Counter()

    def note_busy(self, count: int, *, submission: int) -> None:
        """Note that so many steps of a submission wait, or are worked on, already."""
        self._busy[submission] += count

    def offer(self, item: T, *, submission: int, turn: int, order: tuple[int, ...]) -> bool:
        """Offer a job's step; False: neither it nor any later one of the job finds room.

        Args:
            submission: when it began; the older is first.
            turn: how many steps of the same job come before it.
            order: the job's place among those of its submission.
        """
        if submission not in self._turns:
            self._turns[submission] = _Turns(self.room)
        return self._turns[submission].offer(item, turn=turn, order=order)

    @property
    def left_over(self) -> bool:
        """Something found no room."""
        turns = self._turns.values()
        return any(each.left_over for each in turns) or sum(map(len, turns)) > self.room

    def picked(self) -> list[T]:
        """Return what found room, in turns."""
        waiting = {submission: turns.picked() for submission, turns in self._turns.items()}
        given: list[T] = []
        heap = [(self._busy[submission], submission) for submission in waiting]
        heapq.heapify(heap)
        while heap and len(given) < self.room:
            count, submission = heapq.heappop(heap)
            given.append(waiting[submission].pop(0))
            if waiting[submission]:
                heapq.heappush(heap, (count + 1, submission))
        return given


class _Turns(Generic[T]):
    """Picks one step of each job of a submission, then another of each."""

    def __init__(self, room: int) -> None:
        self._room = room
        # A heap with the worst place on top; by a number of their own, as steps have no order.
        self._picked: list[tuple[tuple[int, ...], int, T]] = []
        self._num_offered = 0
        self.left_over = False

    def __len__(self) -> int:
        return len(self._picked)

    def offer(self, item: T, *, turn: int, order: tuple[int, ...]) -> bool:
        self._num_offered += 1
        place = (-turn, *(-number for number in order))
        entry = (place, -self._num_offered, item)
        if len(self._picked) < self._room:
            heapq.heappush(self._picked, entry)
            return True
        self.left_over = True
        if not self._picked or entry[:2] < self._picked[0][:2]:
            return False
        heapq.heapreplace(self._picked, entry)
        return True

    def picked(self) -> list[T]:
        return [item for *_, item in sorted(self._picked, key=lambda entry: entry[:2])][::-1]
