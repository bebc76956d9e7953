"""Events while a log is read: added one by one in the order of the log, then frozen to arrays."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.inputs.events import DEVICES, KINDS, InputEvents, Mask
from playmill.inputs.lines import (
    Rejected,
    Rejects,
    filled_lines,
    json_lines,
    json_object,
    shown,
)

MAX_NAMES = 512
"""Distinct keys, buttons and axes of one log; each is a column of arrays of actions."""
MAX_NAME_BYTES = 100
"""Length of a name in UTF-8."""
MAX_TIME_US = (1 << 63) - 1
"""The last time that an event may have."""
STEP_BACK_US = 1_000_000
"""Times that go back by less are lines that came late."""
_BATCH = 1 << 16
"""Lines that are put in order at a time, for the slices take memory."""


@cache
def what(device: str, kind: str) -> int:
    """Return the number that says both what an event came from and what happened."""
    return DEVICES.index(device) * len(KINDS) + KINDS.index(kind)


def checked_time(time_us: object, name: str) -> int:
    """Return `time_us`, an event's time in whole microseconds; Rejected: it is none.

    Args:
        name: what the log calls it.
    """
    if type(time_us) is not int:
        raise Rejected(f'"{name}" is {shown(time_us)}, not an int')
    if not 0 <= time_us <= MAX_TIME_US:
        raise Rejected(f'"{name}" is negative' if time_us < 0 else f'"{name}" is 2**63 or more')
    return time_us


def check_name(name: str, field_name: str) -> None:
    """Raise Rejected unless `name` can be the name of a column."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Rejected(f'"{field_name}" is not valid UTF-8') from None
    if not 0 < size <= MAX_NAME_BYTES:
        raise Rejected(f'"{field_name}" has {size} bytes, not 1 to {MAX_NAME_BYTES}')
    if "\0" in name:  # an HDF5 string cannot hold one
        raise Rejected(f'"{field_name}" holds a NUL character')


@dataclass(kw_only=True, slots=True)
class EventTable:
    """All events of one log. `add` what is one, `rejects.add` what is none, then `freeze`."""

    rejects: Rejects = field(default_factory=Rejects)
    _names: dict[tuple[int, str], int] = field(default_factory=dict)
    _time_us: array[int] = field(default_factory=lambda: array("q"))
    _what: array[int] = field(default_factory=lambda: array("B"))
    _code: array[int] = field(default_factory=lambda: array("i"))
    _x: array[float] = field(default_factory=lambda: array("f"))
    _y: array[float] = field(default_factory=lambda: array("f"))
    _raw: bytearray = field(default_factory=bytearray)
    _raw_size: array[int] = field(default_factory=lambda: array("q"))
    _warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._time_us)

    def code(self, device: str, name: str, *, field_name: str) -> int:
        """Return the number of a key, button or axis for `add`; a new name gets the next one.

        Args:
            device: one of DEVICES.
            name: the log's own name.
            field_name: where it stands in the log, for messages.
        Raises:
            Rejected: it cannot be a name, or there are too many.
        """
        key = DEVICES.index(device), name
        code = self._names.get(key)
        if code is None:
            check_name(name, field_name)
            if len(self._names) == MAX_NAMES:
                raise Rejected(f'"{field_name}" is one name more than {MAX_NAMES}')
            code = self._names[key] = len(self._names)
        return code

    def add(
        self,
        time_us: int,
        event: int,
        *,
        code: int = -1,
        x: float = 0,
        y: float = 0,
        raw: bytes = b"",
    ) -> None:
        """Append one event.

        Args:
            time_us: 0 <= time_us < 2**63 (`checked_time`).
            event: what happened to which device, `what(device, kind)`.
            code: of the key, button or axis; -1: none.
            x, y: `InputEvents.value`; finite in float32.
            raw: the event as logged; b"" where the line stands with an event before it.
        """
        self._time_us.append(time_us)
        self._what.append(event)
        self._code.append(code)
        self._x.append(x)
        self._y.append(y)
        self._raw += raw
        self._raw_size.append(len(raw))

    def mouse_unit(self, *, of_positions: str) -> str:
        """Return the unit of moves: counts, or that of positions where moves are made of them."""
        moves, positions = (what("mouse", kind) in self._what for kind in ("move", "position"))
        return of_positions if positions and not moves else "counts"

    def add_lines(
        self,
        log: Path,
        add: Callable[[bytes], None],
        *,
        expected: str,
        header: bytes | None = None,
    ) -> None:
        """Hand every line of `log` that is not blank to `add`; count and keep what it rejects.

        Args:
            add: adds the events on a line to this table, or raises Rejected.
            expected: what a line should be, for the error.
            header: a first line that need not be an event, without blanks around it.
        Raises:
            MissingStream: there is no such file.
            LogError: the log is not empty, and not one of its lines is an event.
        """
        for line_number, line in filled_lines(log):
            try:
                add(line)
            except Rejected as error:
                if line_number > 1 or line.strip() != header:
                    self.rejects.add(line_number, str(error), line)
        self.rejects.check_some_event(log, len(self), expected)
        self.check_order()

    def add_objects(
        self,
        log: Path,
        add: Callable[[dict[str, Any], bytes], None],
        *,
        expected: str,
        exact: bool = False,
    ) -> None:
        """Do what `add_lines` does with a log of JSON objects, which `add` gets with their lines.

        Args:
            exact: give numbers with a point or an exponent as `DecimalText`, not as float.
        """
        for line_number, line, value in json_lines(log, exact=exact):
            try:
                add(value if type(value) is dict else json_object(value), line)
            except Rejected as error:
                self.rejects.add(line_number, str(error), line)
        self.rejects.check_some_event(log, len(self), expected)
        self.check_order()

    def check_order(self) -> None:
        """Warn of times that go far back, if the events so far are as the log has them.

        A line may be a few milliseconds late. One that is a second early was written after the
        computer's clock had been set, and sorting mixes what came before that with what came after.
        """
        if len(self) < 2:
            return
        time_us = np.frombuffer(self._time_us, np.int64)
        place = int(np.argmin(np.diff(time_us)))
        before_us, after_us = int(time_us[place]), int(time_us[place + 1])
        if before_us - after_us >= STEP_BACK_US:
            self._warnings.append(
                f"times of the input log go back by {(before_us - after_us) / 1e6:.3f} s, from"
                f" {before_us} to {after_us} us: a time is wrong, or the clock was set, and then"
                " events before or after that are beside the wrong frames; do not train on them"
            )

    def freeze(
        self,
        *,
        drop_copies: bool = False,
        mouse_unit: str = "counts",
        w3c_codes: Mapping[str, str] | None = None,
        masks: Sequence[Mask] = (),
    ) -> InputEvents:
        """Return the events by time (stable).

        Args:
            drop_copies: leave out and count events whose `raw` is that of an earlier one of the
                same time.
            mouse_unit: unit of moves.
            w3c_codes: KeyboardEvent.code by the log's own key name; None: found by the name.
            masks: spans of time that the log says something about.
        """
        time_us = np.frombuffer(self._time_us, np.int64)
        starts = np.zeros(len(time_us) + 1, np.int64)
        np.cumsum(np.frombuffer(self._raw_size, np.int64), out=starts[1:])
        order = np.argsort(time_us, kind="stable")
        if drop_copies:
            order = _first_copies(time_us, self._raw, starts, order)
        by_name = sorted(self._names, key=lambda key: (key[1], key[0]))
        rank = np.full(len(self._names) + 1, -1, np.int32)  # the last one is that of code -1
        rank[[self._names[key] for key in by_name]] = np.arange(len(by_name), dtype=np.int32)
        device, kind = np.divmod(np.frombuffer(self._what, np.uint8)[order], np.uint8(len(KINDS)))
        x, y = np.frombuffer(self._x, np.float32), np.frombuffer(self._y, np.float32)
        raw, raw_offsets = _packed(self._raw, starts, order)
        codes = tuple(name for _, name in by_name)
        return InputEvents(
            timestamp_us=time_us[order],
            device=device,
            kind=kind,
            code=rank[np.frombuffer(self._code, np.int32)[order]],
            codes=codes,
            code_device=np.array([device for device, _ in by_name], np.uint8),
            value=np.column_stack([x[order], y[order]]),
            raw=raw,
            raw_offsets=raw_offsets,
            mouse_unit=mouse_unit,
            w3c_codes=None if w3c_codes is None else tuple(w3c_codes.get(c, "") for c in codes),
            masks=tuple(masks),
            duplicates=len(time_us) - len(order),
            rejected=self.rejects.freeze(),
            warnings=tuple(self._warnings),
        )


def _first_copies(
    time_us: NDArray[np.int64], raw: bytearray, starts: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return `order` without copies of earlier lines; a copy stands among events of its time."""
    twin = np.zeros(len(order), bool)
    twin[1:] = time_us[order[1:]] == time_us[order[:-1]]
    keep = np.ones(len(order), bool)
    seen: set[bytes] = set()
    for place in np.flatnonzero(twin).tolist():
        if not twin[place - 1]:
            seen = {_line(raw, starts, order[place - 1])}
        line = _line(raw, starts, order[place])
        keep[place] = line not in seen
        seen.add(line)
    return order[keep]


def _line(raw: bytearray, starts: NDArray[np.int64], index: int) -> bytes:
    return bytes(raw[starts[index] : starts[index + 1]])


def _packed(
    raw: bytearray, starts: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the lines in `order`, one after the other, and where each begins."""
    if len(order) + 1 == len(starts) and (order[1:] > order[:-1]).all():  # as they are
        return np.frombuffer(raw, np.uint8), starts
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(starts[order + 1] - starts[order], out=offsets[1:])
    packed = bytearray()
    for first in range(0, len(order), _BATCH):
        part = order[first : first + _BATCH]
        bounds = zip(starts[part].tolist(), starts[part + 1].tolist(), strict=True)
        packed += b"".join([raw[start:stop] for start, stop in bounds])
    return np.frombuffer(packed, np.uint8), offsets
