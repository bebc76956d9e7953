"""Snapshots of what is held, against the presses and releases around them. Knows no log format.

A recorder that says now and then which keys are down mends what it has lost: keys held when the
recording began, and releases that it did not see. Snapshots and events are stamped independently,
so a snapshot is not believed about a key that went up or down around it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from playmill.inputs.event_table import EventTable, what


@dataclass(kw_only=True, slots=True)
class Snapshots:
    """Collects both while a log is read; `correct` then adds `state` events where they differ."""

    settle_us: int
    """A snapshot says nothing about a key with an event at most so far from it in time."""
    _codes: dict[int, str] = field(default_factory=dict)
    _switch_us: array[int] = field(default_factory=lambda: array("q"))
    _switch: array[int] = field(default_factory=lambda: array("i"))
    _shot_us: dict[str, array[int]] = field(default_factory=dict)
    _held: dict[int, array[int]] = field(default_factory=dict)

    def switched(self, time_us: int, device: str, code: int, *, down: bool) -> None:
        """Note a press or release of `code`, as `EventTable.code` numbers it."""
        self._codes[code] = device
        self._switch_us.append(time_us)
        self._switch.append(2 * code + down)

    def taken(self, time_us: int, device: str, codes: Iterable[int]) -> None:
        """Note that of all codes of `device` those in `codes`, and no others, are down."""
        shots = self._shot_us.setdefault(device, array("q"))
        for code in set(codes):
            self._codes[code] = device
            self._held.setdefault(code, array("q")).append(len(shots))
        shots.append(time_us)

    def correct(self, table: EventTable) -> None:
        """Add an event "state" to `table` wherever a snapshot says what the events do not."""
        switch_us = np.frombuffer(self._switch_us, np.int64)
        switch_code, down = np.divmod(np.frombuffer(self._switch, np.int32), np.int32(2))
        for code, device in self._codes.items():
            mine = switch_code == code
            for time_us, held in self._differences(code, switch_us[mine], down[mine] > 0):
                table.add(time_us, what(device, "state"), code=code, x=held)

    def _differences(
        self, code: int, switch_us: NDArray[np.int64], down: NDArray[np.bool_]
    ) -> Iterator[tuple[int, bool]]:
        """Yield (time, held) of each snapshot that differs from what was known before it."""
        shot_us = np.frombuffer(self._shot_us.get(self._codes[code], array("q")), np.int64)
        held = np.zeros(len(shot_us), bool)
        held[np.frombuffer(self._held.get(code, array("q")), np.int64)] = True
        ordered = np.sort(switch_us)
        before = np.searchsorted(ordered, shot_us - self.settle_us)
        clear = before == np.searchsorted(ordered, shot_us + self.settle_us, side="right")
        times = np.concatenate([switch_us, shot_us[clear]])
        values = np.concatenate([down, held[clear]])
        order = np.argsort(times, kind="stable")
        values = values[order]
        known = np.concatenate([[False], values[:-1]])
        for place in np.flatnonzero((order >= len(switch_us)) & (values != known)):
            yield int(times[order[place]]), bool(values[place])
