"""What the player did, a row a frame: the arrays of /actions. Knows no file and no policy's rule.

Held keys follow from all events of the log. Presses, releases, moves and scrolls belong to the
frame whose event they are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.switches import Switches, SwitchReader, switching, unknown_until
from playmill.inputs.events import DEVICES, KINDS, MASKS, InputEvents
from playmill.inputs.w3c import w3c_code
from playmill.synchronizer import (
    INT64_MAX,
    INT64_MIN,
    Alignment,
    blocks,
    events_until,
    spans,
)

_MOVE, _POSITION = KINDS.index("move"), KINDS.index("position")
_SCROLL, _AXIS = KINDS.index("scroll"), KINDS.index("axis")
_COUNT_MAX = 2**16 - 1
_KEYBOARD = DEVICES.index("keyboard")
_POINTERS = (DEVICES.index("mouse"), DEVICES.index("gamepad"))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Actions:
    """The arrays of /actions: N frames, K keys, B buttons, A axes. Arrays are read-only."""

    key_names: tuple[str, ...]
    """(K,) the log's own names of keyboard keys, sorted: the columns of the key arrays."""
    w3c_codes: tuple[str, ...]
    """(K,) KeyboardEvent.code of each, "" where unknown."""
    keys: NDArray[np.uint8]
    """(N, K) held at t[i], after all events with t' <= t[i], assigned or not."""
    keys_any: NDArray[np.uint8]
    """(N, K) down at any moment of the frame's span: just before its first event, or pressed."""
    key_presses: NDArray[np.uint16]
    """(N, K) how often it went from up to down within the span."""
    key_releases: NDArray[np.uint16]
    """(N, K) how often it went from down to up within the span."""
    button_names: tuple[str, ...]
    """(B,) names of mouse and gamepad buttons, sorted; "mouse:left" where names meet."""
    buttons: NDArray[np.uint8]
    """(N, B) as `keys`."""
    buttons_any: NDArray[np.uint8]
    """(N, B) as `keys_any`."""
    button_presses: NDArray[np.uint16]
    """(N, B) as `key_presses`."""
    button_releases: NDArray[np.uint16]
    """(N, B) as `key_releases`."""
    mouse: NDArray[np.float32]
    """(N, 2) sum of the dx, dy of the frame's events, in `mouse_unit`."""
    mouse_unit: str
    """Unit of `mouse`, as the reader gives it."""
    scroll: NDArray[np.float32]
    """(N, 2) sum of the scroll x, y of the frame's events."""
    axis_names: tuple[str, ...]
    """(A,) names of axes, sorted; "gamepad:x" where names meet."""
    axes: NDArray[np.float32]
    """(N, A) last value before the end of the span, assigned or not; 0 before the first."""
    mask_names: tuple[str, ...]
    """(X,) names of the masks that the log has, in the order of MASKS."""
    masks: NDArray[np.uint8]
    """(N, X) 1: some of the frame's time, to the next frame, lies in a span of that name."""
    span_us: NDArray[np.int64]
    """(N, 2) half-open span of t'; `synchronizer.spans`."""
    valid: NDArray[np.uint8]
    """(N,) 0: the span is cut by a gap or the end, or held state is unknown."""
    auto_repeats: int
    """Presses of what was down already."""
    orphan_releases: int
    """Releases of what was not down."""

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __repr__(self) -> str:
        return (
            f"Actions({len(self.valid)} frames, {len(self.key_names)} keys, "
            f"{len(self.button_names)} buttons, {len(self.axis_names)} axes)"
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Columns:
    """What has columns in /actions."""

    key_codes: NDArray[np.int64]
    """(K,) codes of keyboards."""
    button_codes: NDArray[np.int64]
    """(B,)"""
    button_names: tuple[str, ...]
    """(B,)"""
    axis_codes: NDArray[np.int64]
    """(A,)"""
    axis_names: tuple[str, ...]
    """(A,)"""
    column_of: NDArray[np.int64]
    """(C,) a column for every code: keys, buttons, and then what has none in /actions."""

    @property
    def slices(self) -> dict[str, slice]:
        """Which columns are those of keys, and of buttons."""
        num_keys, num_buttons = len(self.key_codes), len(self.button_codes)
        return {"key": slice(num_keys), "button": slice(num_keys, num_keys + num_buttons)}

    @classmethod
    def of(cls, events: InputEvents) -> _Columns:
        """Return the columns that the codes of a log need."""
        is_axis, is_button = _roles(events)
        key_codes = np.flatnonzero(events.code_device == _KEYBOARD)
        button_codes, button_names = _columns(events, is_button)
        axis_codes, axis_names = _columns(events, is_axis)
        shown = np.append(key_codes, button_codes)
        others = np.setdiff1d(np.arange(len(events.codes)), shown)
        column_of = np.empty(len(events.codes), np.int64)
        column_of[np.append(shown, others)] = np.arange(len(events.codes))
        return cls(
            key_codes=key_codes,
            button_codes=button_codes,
            button_names=button_names,
            axis_codes=axis_codes,
            axis_names=axis_names,
            column_of=column_of,
        )


def build(frame_us: NDArray[np.int64], events: InputEvents, alignment: Alignment) -> Actions:
    """Compute what the player did at each frame.

    Args:
        frame_us: (N,) int64, strictly ascending.
        events: the log.
        alignment: `synchronizer.align` of the two.
    """
    if alignment.frame.shape != (len(events),) or alignment.offsets.shape != (len(frame_us) + 1,):
        raise ValueError(f"{alignment=} is not that of {len(frame_us)} frames and {events!r}")
    columns = _Columns.of(events)
    mask_names, masks = _masks(frame_us, events, alignment.latency_us)
    arrays = _empty_arrays(len(frame_us), columns)
    reader = _RowReader(frame_us, events, alignment, columns)
    for frames, span in blocks(alignment.begin, len(events), columns=2 * len(events.codes) + 8):
        for name, rows in reader.read(frames, span).items():
            arrays[name][frames] = rows
    if "unknown" in mask_names:
        arrays["valid"] &= masks[:, mask_names.index("unknown")] ^ 1
    return Actions(
        key_names=tuple(events.codes[code] for code in columns.key_codes),
        w3c_codes=_w3c_codes(events, columns.key_codes),
        button_names=columns.button_names,
        mouse_unit=events.mouse_unit,
        axis_names=columns.axis_names,
        mask_names=mask_names,
        masks=masks,
        auto_repeats=reader.auto_repeats,
        orphan_releases=reader.orphan_releases,
        **arrays,
    )


def _empty_arrays(num_frames: int, columns: _Columns) -> dict[str, Any]:
    """Return the arrays that `_RowReader` fills."""
    arrays: dict[str, Any] = {
        "mouse": np.empty((num_frames, 2), np.float32),
        "scroll": np.empty((num_frames, 2), np.float32),
        "axes": np.empty((num_frames, len(columns.axis_codes)), np.float32),
        "span_us": np.empty((num_frames, 2), np.int64),
        "valid": np.empty(num_frames, np.uint8),
    }
    for name, codes in (("key", columns.key_codes), ("button", columns.button_codes)):
        shape = (num_frames, len(codes))
        arrays[f"{name}s"] = np.empty(shape, np.uint8)
        arrays[f"{name}s_any"] = np.empty(shape, np.uint8)
        arrays[f"{name}_presses"] = np.empty(shape, np.uint16)
        arrays[f"{name}_releases"] = np.empty(shape, np.uint16)
    return arrays


class _RowReader:
    """Computes the rows of /actions, block by block, so that what is worked on stays small."""

    def __init__(
        self,
        frame_us: NDArray[np.int64],
        events: InputEvents,
        alignment: Alignment,
        columns: _Columns,
    ) -> None:
        self._frame_us, self._events, self._alignment = frame_us, events, alignment
        self._columns = columns
        self._switches = SwitchReader(events, columns.column_of)
        self._unknown_until = unknown_until(events)
        self._has_moves = bool((events.kind == _MOVE).any())
        self._position: NDArray[np.float32] | None = None
        """(2,) where the pointer was last."""
        self._axes = np.zeros(len(columns.axis_codes), np.float32)
        """What each axis was last."""
        self.auto_repeats = self.orphan_releases = 0
        """Counts of what changed nothing, so far."""

    def read(self, frames: slice, span: slice) -> dict[str, NDArray[Any]]:
        """Return rows of arrays, name -> (R, ...), of some type that the array's can hold.

        Args:
            frames, span: the next of `synchronizer.blocks`.
        """
        begin = self._alignment.begin[frames]
        start = span.start
        if len(begin):  # what is held at a frame may be from before its span
            start = min(start, int(self._events_until(slice(frames.start, frames.start + 1))[0]))
        held = start + self._events_until(frames, slice(start, span.stop))
        switches = self._switches.read(start, span.stop)
        rows = self._states(switches, frames, span, begin - start, held - start)
        rows["mouse"] = self._mouse(frames, span)
        rows["scroll"] = self._sums(_SCROLL, self._events.value[span], frames, span)
        rows["axes"] = self._axis_values(frames, span)
        rows["span_us"], whole = _spans(self._frame_us, frames, self._alignment)
        rows["valid"] = whole & (np.minimum(begin, held) >= self._unknown_until)
        return rows

    def _events_until(self, frames: slice, span: slice = slice(None)) -> NDArray[np.int64]:
        """Return (R,) how many events of `span` have t' <= t[i]."""
        return events_until(
            self._frame_us[frames],
            self._events.timestamp_us[span],
            latency_us=self._alignment.latency_us,
        )

    def _states(
        self,
        switches: Switches,
        frames: slice,
        span: slice,
        begin: NDArray[np.int64],
        held: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        """Return what is held, and what was pressed and released, of keys and buttons.

        Args:
            switches: of the events from some `start` to the end of `span`.
            begin, held: (R,) how many of these lie before the span, and have t' <= t[i].
        """
        num_columns = len(self._columns.column_of)
        mine = slice(len(switches.press) - (span.stop - span.start), None)
        press, column = switches.press[mine], switches.column[mine]
        changed, stated = switches.changed[mine], switches.stated[mine]
        idle = (column < num_columns) & ~changed & ~stated
        self.auto_repeats += int(np.count_nonzero(idle & press))
        self.orphan_releases += int(np.count_nonzero(idle & ~press))
        frame = self._alignment.frame[span]
        assigned = frame >= 0
        changed = changed & assigned
        frame = (frame - frames.start) * assigned
        releases, presses = _counts(
            frame, press, column, changed & ~stated, (len(begin), num_columns)
        )
        down_any = switches.down(begin, num_columns) | (presses > 0)
        by_snapshot = np.flatnonzero(changed & stated & press)
        down_any[frame[by_snapshot], column[by_snapshot]] = 1
        down = switches.down(held, num_columns)
        rows = {}
        for name, its in self._columns.slices.items():
            rows[f"{name}s"] = down[:, its]
            rows[f"{name}s_any"] = down_any[:, its]
            rows[f"{name}_presses"] = presses[:, its]
            rows[f"{name}_releases"] = releases[:, its]
        return rows

    def _mouse(self, frames: slice, span: slice) -> NDArray[np.float32]:
        """Return (R, 2) the sum of each frame's moves.

        A log that knows only where the pointer was has a move at every position but the first: the
        way from the one before.
        """
        value = self._events.value[span]
        if self._has_moves:
            return self._sums(_MOVE, value, frames, span)
        at = np.flatnonzero(self._events.kind[span] == _POSITION)
        if not len(at):
            return np.zeros((frames.stop - frames.start, 2), np.float32)
        ways = np.zeros(value.shape, np.float64)
        ways[at[1:]] = np.diff(value[at].astype(np.float64), axis=0)
        if self._position is not None:
            ways[at[0]] = value[at[0]].astype(np.float64) - self._position
        self._position = value[at[-1]]
        return self._sums(_POSITION, ways, frames, span)

    def _sums(
        self, kind: int, value: NDArray[Any], frames: slice, span: slice
    ) -> NDArray[np.float32]:
        """Return (R, 2) the sum of the values of each frame's events of one kind."""
        num_frames = frames.stop - frames.start
        chosen = np.flatnonzero(self._events.kind[span] == kind)
        frame = self._alignment.frame[span][chosen]
        chosen, frame = chosen[frame >= 0], frame[frame >= 0] - frames.start
        if not len(chosen):
            return np.zeros((num_frames, 2), np.float32)
        sums = [np.bincount(frame, value[chosen, axis], minlength=num_frames) for axis in (0, 1)]
        return np.column_stack(sums).astype(np.float32)

    def _axis_values(self, frames: slice, span: slice) -> NDArray[np.float32]:
        """Return (R, A) the last value of each axis before the end of the span; 0 before any."""
        ends = self._alignment.begin[frames] + np.diff(
            self._alignment.offsets[frames.start : frames.stop + 1]
        )
        axes = np.zeros((len(ends), len(self._axes)), np.float32)
        code = self._events.code[span]
        is_axis = self._events.kind[span] == _AXIS
        for column, wanted in enumerate(self._columns.axis_codes):
            mine = np.flatnonzero(is_axis & (code == wanted))
            values = np.append(self._axes[column], self._events.value[span][mine, 0])
            axes[:, column] = values[np.searchsorted(mine, ends - span.start)]
            self._axes[column] = values[-1]
        return axes


def _w3c_codes(events: InputEvents, key_codes: NDArray[np.int64]) -> tuple[str, ...]:
    if events.w3c_codes is not None:
        return tuple(events.w3c_codes[code] for code in key_codes)
    return tuple(w3c_code(events.codes[code]) for code in key_codes)


def _masks(
    frame_us: NDArray[np.int64], events: InputEvents, latency_us: int
) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Return the names of the log's masks, and (N, X) which frames they touch.

    A frame's time is that on screen: up to the next frame; the last one has its own microsecond.
    """
    names = tuple(name for name in MASKS if any(mask.name == name for mask in events.masks))
    masks = np.zeros((len(frame_us), len(names)), np.uint8)
    for mask in events.masks:
        start, stop = mask.start_us + latency_us, mask.stop_us + latency_us
        first = max(int(np.searchsorted(frame_us, start, side="right")) - 1, 0)
        last = int(np.searchsorted(frame_us, stop))
        if first == len(frame_us) - 1 and start > int(frame_us[-1]):
            continue
        masks[first:last, names.index(mask.name)] = 1
    return names, masks


def _roles(events: InputEvents) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (C,) is an axis, (C,) is a button, for the codes of mouse and gamepad.

    A code is what its events make of it, which can be both; without events it is a button.
    """
    pointer = np.isin(events.code_device, _POINTERS)
    axis, switch = np.zeros((2, len(events.codes)), bool)
    is_axis = events.kind == _AXIS
    if bool(is_axis.any()):
        coded = events.code >= 0
        axis[events.code[coded & is_axis]] = True
        switch[events.code[coded & switching(events.kind)]] = True
    return pointer & axis, pointer & (switch | ~axis)


def _columns(
    events: InputEvents, chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the codes that become columns, and the columns' names: unique and sorted."""
    codes = np.flatnonzero(chosen)
    names = [events.codes[code] for code in codes]
    if len(set(names)) < len(names):  # two devices share one: then all say their device
        devices = [DEVICES[events.code_device[code]] for code in codes]
        names = [f"{device}:{name}" for device, name in zip(devices, names, strict=True)]
    order = sorted(range(len(names)), key=names.__getitem__)
    return codes[order], tuple(names[place] for place in order)


def _counts(
    frame: NDArray[np.int64],
    press: NDArray[np.bool_],
    column: NDArray[Any],
    counted: NDArray[np.bool_],
    shape: tuple[int, int],
) -> NDArray[np.uint16]:
    """Return (2, R, C) how often each column is released and pressed, as far as uint16 can say.

    Args:
        frame, press, column: of each event.
        counted: which events count.
        shape: (R, C)
    """
    size = shape[0] * shape[1]
    cell = frame * shape[1]
    cell += column
    cell += press * size
    # A sum of ones, as it costs less than to leave out what does not count.
    counts = np.bincount(cell, counted, minlength=2 * size)[: 2 * size]
    if counts.max(initial=0) > _COUNT_MAX:
        np.minimum(counts, _COUNT_MAX, out=counts)
    return counts.astype(np.uint16).reshape(2, *shape)


def _spans(
    frame_us: NDArray[np.int64], frames: slice, alignment: Alignment
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (R, 2) the frames' spans, and (R,) whether each is whole.

    It is if a neighbour on each needed side would leave it no less.
    """
    before = min(frames.start, 1)
    around = frame_us[frames.start - before : frames.stop + 1]  # bounds are neighbours' affair
    span_us = spans(around, policy=alignment.policy, window_us=alignment.window_us)
    if alignment.policy == "window":
        # A span always ends a window after its frame, and begins where the last one ended.
        whole = np.zeros(len(around), bool)
        whole[1:] = span_us[1:, 0] == span_us[:-1, 1]
    else:
        free = spans(around, policy=alignment.policy, window_us=None)
        whole = np.ones(len(around), bool)
        for side, infinite in enumerate((INT64_MIN, INT64_MAX)):
            whole &= (free[:, side] != infinite) & (span_us[:, side] == free[:, side])
    mine = slice(before, before + frames.stop - frames.start)
    return span_us[mine], whole[mine]
