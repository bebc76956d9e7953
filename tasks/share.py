"""Share: the room in a queue, given to many jobs in turns."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class Share(Generic[T]):
    """Picks one step of each job, then another of each, until the room is taken.

    Of however many it is offered, it keeps no more than there is room for.
    """

    def __init__(self, room: int) -> None:
        self.room = max(0, room)
        self._picked: list[tuple[int, int, T]] = []  # a heap with the worst place on top
        self.left_over = False
        """Something found no room."""

    def offer(self, item: T, *, turn: int, order: int) -> bool:
        """Offer a job's step; False: neither it nor any later one of the job finds room.

        Args:
            turn: how many steps of the same job come before it.
            order: the job's place among the jobs.
        """
        place = (-turn, -order)
        if len(self._picked) < self.room:
            heapq.heappush(self._picked, (*place, item))
            return True
        self.left_over = True
        if not self._picked or place < self._picked[0][:2]:
            return False
        heapq.heapreplace(self._picked, (*place, item))
        return True

    def picked(self) -> list[T]:
        """Return what found room, in turns."""
        return [item for _, _, item in sorted(self._picked, key=lambda entry: entry[:2])][::-1]
