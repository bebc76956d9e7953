"""Counts whether everything in the log is in /actions or in no frame: nothing lost, nothing twice.

The log is counted anew here, by the written rules, and nothing is taken over from `actions` but its
arrays and counters: what is wrong there does not add up here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import synchronizer
from playmill.alignment.actions import Actions
from playmill.inputs.events import DEVICES, KINDS, InputEvents
from playmill.synchronizer import Alignment

_PRESS, _RELEASE, _STATE, _POSITION = (
    KINDS.index(kind) for kind in ("press", "release", "state", "position")
)
_COLUMN_DEVICES = tuple(DEVICES.index(name) for name in ("keyboard", "mouse", "gamepad"))
_FULL = np.iinfo(np.uint16).max
"""A count in /actions ends here."""
_WHOLE = 2**24
"""float32 holds every whole number up to this."""
_BLOCK = 1 << 16
"""Values that are Python's own numbers at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """One quantity: log = dataset + unassigned, as far as the arrays can say it."""

    log: float
    dataset: float
    unassigned: float
    tolerance: float = 0.0
    """What float32 rows may have lost by rounding; 0 for counts and for sums of whole numbers."""

    @property
    def holds(self) -> bool:
        """Whether it adds up; never with a number that is not finite."""
        return abs(self.dataset + self.unassigned - self.log) <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the three numbers: ints where they are whole, None where not finite."""
        return {name: _number(getattr(self, name)) for name in ("log", "dataset", "unassigned")}


def audit(events: InputEvents, alignment: Alignment, actions: Actions) -> dict[str, Balance]:
    """Balance presses, releases, scrolls and mouse moves of the log against the dataset.

    presses: `log` is the presses of keys and buttons less those of what was down already
    (`auto_repeats`), `dataset` the sum of key_presses and button_presses. releases: the same with
    `orphan_releases`. `unassigned` are such changes by events without a frame, and what a frame had
    beyond the 65,535 that its count can hold. Events without a code, and of devices that have no
    columns in /actions, are not part of it.

    scroll_x, scroll_y, mouse_dx, mouse_dy: sums over the events of kind scroll and move. They
    balance exactly where all values are whole and no row exceeds 2**24; otherwise each row may be
    off by half the spacing of float32 there. In a log without moves they are those between its
    positions.
    """
    return {
        **_switches(events, alignment, actions),
        **_sums("scroll", ("scroll_x", "scroll_y"), events, alignment, actions.scroll),
        **_sums("move", ("mouse_dx", "mouse_dy"), events, alignment, actions.mouse),
    }


def holds(balances: Iterable[Balance]) -> bool:
    """Return whether every one of them adds up."""
    return all(balance.holds for balance in balances)


def what_is_lost(conservation: dict[str, Any]) -> str:
    """Return a sentence on an alignment report's `conservation` that does not hold."""
    parts = [
        f"{name}: log {row['log']}, dataset {row['dataset']}, unassigned {row['unassigned']}"
        for name, row in conservation.items()
        if name != "holds"
    ]
    return (
        "/actions does not add up to the input log, which is a fault of playmill, not of the"
        f" recording ({'; '.join(parts)})"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Switches:
    """Presses and releases with a code, of a block of events, by code and then in time order.

    All (T,).
    """

    code: NDArray[np.int32]
    frame: NDArray[np.int64]
    """-1 where none."""
    press: NDArray[np.bool_]
    """True: a press; False: a release."""
    column: NDArray[np.bool_]
    """Whether /actions has columns for its device."""
    idle: NDArray[np.bool_]
    """Changes nothing: an auto-repeat or an orphan release."""


def _switches(events: InputEvents, alignment: Alignment, actions: Actions) -> dict[str, Balance]:
    presses, releases = (np.zeros(3, np.int64) for _ in range(2))
    for block in _blocks_of_switches(events, alignment):
        presses += _counts(block, block.press)
        releases += _counts(block, ~block.press)
    press_tables = (actions.key_presses, actions.button_presses)
    release_tables = (actions.key_releases, actions.button_releases)
    beyond = [
        _beyond_full(events, alignment, tables, press=press)
        for tables, press in ((press_tables, True), (release_tables, False))
    ]
    return {
        "presses": _switch_balance(presses, actions.auto_repeats, press_tables, beyond[0]),
        "releases": _switch_balance(releases, actions.orphan_releases, release_tables, beyond[1]),
    }


def _blocks_of_switches(events: InputEvents, alignment: Alignment) -> Iterator[_Switches]:
    """Yield the presses and releases of the log, a block of events at a time."""
    has_columns = np.isin(events.code_device, _COLUMN_DEVICES)
    is_down = np.zeros(len(events.codes), bool)  # before the block
    for start in range(0, len(events), synchronizer.BLOCK_EVENTS):
        block = slice(start, start + synchronizer.BLOCK_EVENTS)
        kind, code = events.kind[block], events.code[block]
        switching = (kind <= _RELEASE) | (kind == _STATE)
        coded = np.flatnonzero(switching & (code >= 0))
        coded = coded[np.argsort(code[coded], kind="stable")]
        kind, code = kind[coded], code[coded]
        down = (kind == _PRESS) | ((kind == _STATE) & (events.value[block][coded, 0] != 0))
        first = np.append(True, code[1:] != code[:-1])[: len(code)]
        was_down = np.append(False, down[:-1])[: len(code)]
        was_down[first] = is_down[code[first]]
        is_down[code] = down  # the last of each code stays
        # What a snapshot puts right is neither a press nor a release, but decides what comes next.
        logged = kind != _STATE
        press = kind[logged] == _PRESS
        yield _Switches(
            code=code[logged],
            frame=alignment.frame[block][coded[logged]],
            press=press,
            column=has_columns[code[logged]],
            idle=press == was_down[logged],
        )


def _counts(block: _Switches, mine: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return (3,) how many of `mine` have a column; have none and are idle; changed in no frame."""
    groups = (
        mine & block.column,
        mine & block.idle & ~block.column,
        mine & block.column & ~block.idle & (block.frame < 0),
    )
    return np.array([np.count_nonzero(group) for group in groups])


def _switch_balance(
    counts: NDArray[np.int64],
    idle_counter: int,
    tables: tuple[NDArray[np.uint16], ...],
    beyond_full: int,
) -> Balance:
    with_column, idle_elsewhere, without_frame = counts.tolist()
    # The counter is of all devices, the arrays are not.
    return Balance(
        log=with_column - (idle_counter - idle_elsewhere),
        dataset=sum(int(table.sum(dtype=np.int64)) for table in tables),
        unassigned=without_frame + beyond_full,
    )


def _beyond_full(
    events: InputEvents,
    alignment: Alignment,
    tables: Iterable[NDArray[np.uint16]],
    *,
    press: bool,
) -> int:
    """Return how many presses, or releases, lie beyond the counts that are full."""
    if not any(table.max(initial=0) == _FULL for table in tables):
        return 0
    pairs = []
    for block in _blocks_of_switches(events, alignment):
        counted = (block.press == press) & block.column & ~block.idle & (block.frame >= 0)
        pairs.append(np.stack([block.code[counted].astype(np.int64), block.frame[counted]]))
    _, counts = np.unique(np.concatenate(pairs, axis=1), axis=1, return_counts=True)
    return int(np.maximum(counts - _FULL, 0).sum())


def _sums(
    kind: str,
    names: tuple[str, str],
    events: InputEvents,
    alignment: Alignment,
    rows: NDArray[np.float32],
) -> dict[str, Balance]:
    chosen = events.kind == KINDS.index(kind)
    values, frame = events.value[chosen], alignment.frame[chosen]
    if kind == "move" and not len(values):
        values, frame = _ways(events, alignment)
    return {
        name: Balance(
            log=_sum(values[:, axis]),
            dataset=_sum(rows[:, axis]),
            unassigned=_sum(values[frame < 0, axis]),
            tolerance=_tolerance(values[:, axis], rows[:, axis]),
        )
        for axis, name in enumerate(names)
    }


def _ways(
    events: InputEvents, alignment: Alignment
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the moves between the positions of a log that has no others, and their frames."""
    at = events.kind == _POSITION
    values = events.value[at].astype(np.float64)
    return values[1:] - values[:-1], alignment.frame[at][1:]


def _sum(values: NDArray[np.floating[Any]]) -> float:
    """Return the sum, correctly rounded; NaN where it is no finite number."""
    if _is_whole(values):
        return float(values.sum(dtype=np.float64))
    blocks = (values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK))
    try:
        return math.fsum(chain.from_iterable(block.tolist() for block in blocks))
    except (OverflowError, ValueError):  # infinities
        return math.nan


def _is_whole(values: NDArray[np.floating[Any]]) -> bool:
    """Say whether these are whole numbers of which float64 holds every sum exactly."""
    return bool(np.abs(values).sum(dtype=np.float64) < 2**53 and (values == np.rint(values)).all())


def _tolerance(values: NDArray[np.floating[Any]], rows: NDArray[np.float32]) -> float:
    """Return how far the sum of `rows` may be off: added up in float64, kept as float32."""
    if not (np.isfinite(values).all() and np.isfinite(rows).all()):
        return 0.0
    size = np.abs(rows.astype(np.float64))
    if _is_whole(values):
        return _sum(size[size >= _WHOLE] * 2.0**-24)
    total = _sum(np.abs(values))
    return _sum(size * 2.0**-24) + (len(values) + 4) * total * 2.0**-53 + len(rows) * 2.0**-149


def _number(value: float) -> int | float | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else value
