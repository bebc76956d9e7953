"""Presses and releases: which of them change something, and what is down after each event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import synchronizer
from playmill.inputs.events import KINDS, InputEvents

_PRESS, _RELEASE, _STATE = (KINDS.index(kind) for kind in ("press", "release", "state"))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Switches:
    """What the events of a stretch of the log switch. (T,): an item for every event of it."""

    column: NDArray[Any]
    """(T,) unsigned; what went, or is, down or up; C for events that switch nothing."""
    press: NDArray[np.bool_]
    """(T,) True: down."""
    stated: NDArray[np.bool_]
    """(T,) by a snapshot of what is held, which is neither press nor release."""
    changed: NDArray[np.bool_]
    """(T,) it was not so before; False for events that switch nothing."""
    words: NDArray[Any]
    """(W, T+1) unsigned, little-endian; what is down after so many of the events: bit c of word w
    is column b * w + c, for words of b bits."""

    def down(self, count: NDArray[np.int64], num_columns: int) -> NDArray[np.uint8]:
        """Return (R, num_columns) 1 where a column is down after `count` events of the stretch."""
        octets = self.words[:, count].T.copy().view(np.uint8)
        return np.unpackbits(octets, axis=1, count=num_columns, bitorder="little")


class SwitchReader:
    """Reads a log's switches, stretch by stretch.

    Args:
        events: the log.
        column_of: (C,) the column of each code, all different.
    """

    def __init__(self, events: InputEvents, column_of: NDArray[np.int64]) -> None:
        self._events = events
        self._none = num_columns = len(column_of)
        # numpy sorts 8 and 16 bits by counting, several times as fast. Code -1 is the last.
        self._column_of = np.append(column_of, self._none).astype(np.min_scalar_type(num_columns))
        # (W, C+1) the bit of each column in each word.
        word = np.min_scalar_type(2 ** min(num_columns, 64) - 1).newbyteorder("<")
        words, bits = np.divmod(np.arange(num_columns), 8 * word.itemsize)
        self._bits = np.zeros((max(words, default=0) + 1, num_columns + 1), word)
        self._bits[words, np.arange(num_columns)] = word.type(1) << bits.astype(word)
        self._start, self._words = 0, np.zeros((len(self._bits), 1), word)
        """What is down after so many events, from `_start` on."""

    def read(self, start: int, stop: int) -> Switches:
        """Return the switches among events[start:stop].

        `start` is 0 at first, and then lies in the stretch that was read last, or at its end.
        """
        kind = self._events.kind[start:stop]
        column = self._column_of.take(self._events.code[start:stop])
        column[~switching(kind)] = self._none
        stated, press = (kind == _STATE) & (column < self._none), kind == _PRESS
        press &= column < self._none
        if bool(stated.any()):
            press |= stated & (self._events.value[start:stop, 0] != 0)
        down = self._words[:, start - self._start]
        is_down = np.asarray((down[:, np.newaxis] & self._bits).any(axis=0))
        changed = _changed(column, press, is_down)
        words = np.empty((len(down), stop - start + 1), down.dtype)
        words[:, 0] = down
        for word, bits in zip(words, self._bits, strict=True):
            np.multiply(bits.take(column), changed, out=word[1:])
            np.bitwise_xor.accumulate(word, out=word)
        self._start, self._words = start, words
        return Switches(column=column, press=press, stated=stated, changed=changed, words=words)


def _changed(
    column: NDArray[Any], press: NDArray[np.bool_], down: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return (T,) whether each event says something else than its column's last one.

    Args:
        column, press: `Switches.column` and `press`.
        down: whether each column is down before all of them.
    """
    order = np.argsort(column, kind="stable")
    sizes = np.bincount(column, minlength=len(down))
    after = press.take(order)
    before = np.empty_like(after)
    before[1:] = after[:-1]
    before[(np.cumsum(sizes) - sizes)[sizes > 0]] = down[sizes > 0]
    changed = np.empty_like(after)
    changed[order] = after != before
    return changed


def switching(kind: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (M,) whether an event says that something went, or is, down or up."""
    switches: NDArray[np.bool_] = (kind <= _RELEASE) | (kind == _STATE)
    return switches


def unknown_until(events: InputEvents) -> int:
    """Return after how many events it is known of every code whether it is down.

    A first event that is a release says that the key was down when logging began.
    """
    seen = np.append(np.zeros(len(events.codes), bool), True)  # the last stands for no code
    until = 0
    for start in range(0, len(events), synchronizer.BLOCK_EVENTS):
        if bool(seen.all()):
            break
        block = slice(start, start + synchronizer.BLOCK_EVENTS)
        kind, code = events.kind[block], events.code[block]
        new = np.flatnonzero(switching(kind) & ~seen[code])
        codes, first = np.unique(code[new], return_index=True)
        seen[codes] = True
        released = new[first][kind[new[first]] == _RELEASE]
        if len(released):
            until = start + int(released.max()) + 1
    return until
