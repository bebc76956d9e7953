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
    """The T events of a stretch of the log that say that something went, or is, down or up."""

    start: int
    """The event at which the stretch begins."""
    place: NDArray[np.int64]
    """(T,) where in the stretch; ascending."""
    column: NDArray[Any]
    """(T,) unsigned; what went down or up."""
    press: NDArray[np.bool_]
    """(T,) True: down."""
    stated: NDArray[np.bool_]
    """(T,) by a snapshot of what is held, which is neither press nor release."""
    changed: NDArray[np.bool_]
    """(T,) it was not so before."""
    _words: NDArray[np.uint64]
    """(W, length of the stretch + 1) what is down after so many of its events: bit c of word w is
    column 64 * w + c."""

    def down(self, count: NDArray[np.int64], num_columns: int) -> NDArray[np.uint8]:
        """Return (R, num_columns) 1 where a column is down after `count` events of the stretch."""
        octets = self._words[:, count].T.copy().view(np.uint8)
        return np.unpackbits(octets, axis=1, count=num_columns, bitorder="little")

    def words_after(self, count: int) -> NDArray[np.uint64]:
        """Return (W,) what is down after `count` events, for the stretch that begins there."""
        return self._words[:, count]


class SwitchReader:
    """Reads a log's switches, stretch by stretch.

    Args:
        events: the log.
        column_of: (C,) the column of each code, all different.
    """

    def __init__(self, events: InputEvents, column_of: NDArray[np.int64]) -> None:
        self._events = events
        self._num_columns = len(column_of)
        # numpy sorts 8 and 16 bits by counting, several times as fast.
        self._column_of = column_of.astype(np.min_scalar_type(len(column_of)))
        # (W, C) the bit of each column in each word; none but in its own.
        words, bits = np.divmod(np.arange(len(column_of)), 64)
        self._bits = np.zeros((len(column_of) // 64 + 1, len(column_of)), "<u8")
        self._bits[words, np.arange(len(column_of))] = np.uint64(1) << bits.astype(np.uint64)
        self._last: Switches | None = None

    def read(self, start: int, stop: int) -> Switches:
        """Return the switches among events[start:stop].

        `start` is 0 at first, and then lies in the stretch that was read last, or at its end.
        """
        kind, code = self._events.kind[start:stop], self._events.code[start:stop]
        place = np.flatnonzero(switching(kind) & (code >= 0))
        kind, column = kind[place], self._column_of[code[place]]
        stated = kind == _STATE
        press = kind == _PRESS
        if bool(stated.any()):
            press |= stated & (self._events.value[start:stop][place, 0] != 0)
        words = np.zeros((len(self._bits), stop - start + 1), "<u8")
        if self._last is not None:
            words[:, 0] = self._last.words_after(start - self._last.start)
        changed = _changed(column, press, self._unpacked(words[:, 0]))
        for word, bits in zip(words, self._bits, strict=True):
            word[place + 1] = np.where(changed, bits[column], np.uint64(0))
            np.bitwise_xor.accumulate(word, out=word)
        self._last = Switches(
            start=start,
            place=place,
            column=column,
            press=press,
            stated=stated,
            changed=changed,
            _words=words,
        )
        return self._last

    def _unpacked(self, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return (words[:, np.newaxis] & self._bits).any(axis=0)


def _changed(
    column: NDArray[Any], press: NDArray[np.bool_], down: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return (T,) whether each is not what its column's last one was, or at first what `down` is.

    Args:
        column, press: `Switches.column` and `press`.
        down: whether each column is down before all of them.
    """
    order = np.argsort(column, kind="stable")
    sizes = np.bincount(column, minlength=len(down))
    after = press[order]
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
