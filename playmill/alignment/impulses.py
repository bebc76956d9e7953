"""Inputs as impulses in time, each with the image motion that it may drive. Knows no files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from playmill.decoding.motion import COLUMNS
from playmill.inputs.events import KINDS, InputEvents

Evidence = Literal["mouse", "keys"]
Response = Literal["same", "either", "any"]

MIN_IMPULSES = 20
"""Fewer moves, or fewer edges of a key, are no statistics."""
MAX_CODES = 8
"""Keys, buttons and axes that are looked at: those used most."""

_ACROSS = tuple(i for i, name in enumerate(COLUMNS) if name.startswith("dx"))
_DOWN = tuple(i for i, name in enumerate(COLUMNS) if name.startswith("dy"))
_CHANGE = (COLUMNS.index("change"),)
_PRESS, _RELEASE, _MOVE, _POSITION, _AXIS = (
    KINDS.index(kind) for kind in ("press", "release", "move", "position", "axis")
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Impulses:
    """One input over time, and the columns of motion in which its effect may show."""

    evidence: Evidence
    """What it is evidence from."""
    time_us: NDArray[np.int64]
    """(M,) ascending."""
    value: NDArray[np.float64]
    """(M,) size and direction of each impulse."""
    columns: tuple[int, ...]
    """Indices into motion.COLUMNS."""
    response: Response
    """How motion follows: in proportion, up to its sign; in proportion, with the same sign; or
    after a law of its own (a held key moves things at a speed, and that may build up slowly)."""
    again: bool = False
    """Whether the same events were counted with others already."""

    @property
    def num_logged(self) -> int:
        """How many impulses there are that no others count."""
        return 0 if self.again else len(self.time_us)


def impulses_of(events: InputEvents, wanted: NDArray[np.bool_]) -> Iterator[Impulses]:
    """Yield what in `events` can tell about lag, one input after the other.

    Args:
        events: the whole log: whether a press is an edge follows from what came before it.
        wanted: (M,) the events whose impulses are looked at.
    """
    found = chain(_mouse(events, wanted), _switches(events, wanted), _axes(events, wanted))
    for impulses in found:
        if len(impulses.time_us) >= MIN_IMPULSES:
            yield impulses


def _mouse(events: InputEvents, wanted: NDArray[np.bool_]) -> Iterator[Impulses]:
    """Moves turn or shift the picture; those of a pointer at least change it."""
    time_us, moves = _moves(events, wanted)
    ways: tuple[tuple[NDArray[np.float64], tuple[int, ...], Response], ...] = (
        (np.hypot(moves[:, 0], moves[:, 1]), _CHANGE, "same"),
        (moves[:, 0], _ACROSS, "either"),
        (moves[:, 1], _DOWN, "either"),
    )
    for value, columns, response in ways:
        moving = value != 0
        yield Impulses(
            evidence="mouse",
            time_us=time_us[moving],
            value=value[moving],
            columns=columns,
            response=response,
            again=response == "either",
        )


def _moves(
    events: InputEvents, wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return times and (M, 2) movements; positions become the way from the one before."""
    absolute = np.flatnonzero(events.kind == _POSITION)
    ways = np.diff(events.value[absolute].astype(np.float64), axis=0)[wanted[absolute[1:]]]
    absolute = absolute[1:][wanted[absolute[1:]]]
    relative = np.flatnonzero((events.kind == _MOVE) & wanted)
    order = np.concatenate((relative, absolute))
    moves = np.concatenate((events.value[relative].astype(np.float64), ways))
    by_time = np.argsort(order)
    finite = np.isfinite(moves[by_time]).all(axis=1)
    return events.timestamp_us[order[by_time]][finite], moves[by_time][finite]


def _switches(events: InputEvents, wanted: NDArray[np.bool_]) -> Iterator[Impulses]:
    """A key or button that goes down or up moves things, or stops them; a press may flash."""
    switching = (events.kind == _PRESS) | (events.kind == _RELEASE)
    for code in _most_used(events.code[switching]):
        own = np.flatnonzero(switching & (events.code == code))
        down = (events.kind[own] == _PRESS).astype(np.float64)
        # Auto-repeat, and a release of what is not down, change nothing.
        step = np.diff(down, prepend=0.0)[wanted[own]]
        time_us = events.timestamp_us[own[wanted[own]]]
        edge = step != 0
        yield _driven(time_us[edge], step[edge])
        yield Impulses(
            evidence="keys",
            time_us=time_us[step > 0],
            value=step[step > 0],
            columns=_CHANGE,
            response="same",
            again=True,
        )


def _axes(events: InputEvents, wanted: NDArray[np.bool_]) -> Iterator[Impulses]:
    """A stick that is moved sets a speed, as a key does."""
    of_axis = events.kind == _AXIS
    for code in _most_used(events.code[of_axis]):
        own = np.flatnonzero(of_axis & (events.code == code))
        step = np.diff(events.value[own, 0].astype(np.float64), prepend=0.0)
        edge = np.isfinite(step) & (step != 0) & wanted[own]
        yield _driven(events.timestamp_us[own[edge]], step[edge])


def _driven(time_us: NDArray[np.int64], step: NDArray[np.float64]) -> Impulses:
    return Impulses(
        evidence="keys",
        time_us=time_us,
        value=step,
        columns=_ACROSS + _DOWN,
        response="any",
    )


def _most_used(codes: NDArray[np.int32]) -> list[int]:
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CODES]
    return [int(code) for code in found[order][counts[order] >= MIN_IMPULSES]]
