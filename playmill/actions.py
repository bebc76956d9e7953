"""What the player did, a row a frame: the arrays of /actions. Knows no file and no policy's rule.

Held keys follow from all events of the log. Presses, releases, moves and scrolls belong to the
frame whose event they are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.inputs.events import DEVICES, KINDS, MASKS, InputEvents
from playmill.inputs.w3c import w3c_code
from playmill.synchronizer import (
    INT64_MAX,
    INT64_MIN,
    Alignment,
    events_until,
    spans,
)

_PRESS, _RELEASE, _STATE = (KINDS.index(kind) for kind in ("press", "release", "state"))
_POSITION = KINDS.index("position")
_MOVE, _SCROLL, _AXIS = KINDS.index("move"), KINDS.index("scroll"), KINDS.index("axis")
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frames:
    """Where each frame stands in the list of events. All (N,) int64, ascending."""

    begin: NDArray[np.int64]
    """How many events lie before the span."""
    end: NDArray[np.int64]
    """How many lie before its end."""
    held: NDArray[np.int64]
    """How many have t' <= t[i]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Changes:
    """The presses and releases of one code that change something, by time. All (T,)."""

    press: NDArray[np.bool_]
    """True: from up to down."""
    frame: NDArray[np.int64]
    """Frame that it is counted in, -1 where none; snapshots are counted in none."""
    assigned: NDArray[np.int64]
    """Frame that it is assigned to, -1 where none."""
    shown_any: NDArray[np.int32]
    """First frame whose span begins after it; N where none does."""
    shown_held: NDArray[np.int32]
    """First frame with t[i] >= t'; N where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """The four arrays of keys, or of buttons."""

    held: NDArray[np.uint8]
    any: NDArray[np.uint8]
    presses: NDArray[np.uint16]
    releases: NDArray[np.uint16]


def build(frame_us: NDArray[np.int64], events: InputEvents, alignment: Alignment) -> Actions:
    """Compute what the player did at each frame.

    Args:
        frame_us: (N,) int64, strictly ascending.
        events: the log.
        alignment: `synchronizer.align` of the two.
    """
    if alignment.frame.shape != (len(events),) or alignment.offsets.shape != (len(frame_us) + 1,):
        raise ValueError(f"{alignment=} is not that of {len(frame_us)} frames and {events!r}")
    frames = _locate(frame_us, events, alignment)
    switches = _Switches(events, alignment, frames)
    is_axis, is_button = _roles(events)
    key_codes = np.flatnonzero(events.code_device == _KEYBOARD)
    button_codes, button_names = _columns(events, is_button)
    axis_codes, axis_names = _columns(events, is_axis)
    keys = _empty_table(len(frame_us), len(key_codes))
    buttons = _empty_table(len(frame_us), len(button_codes))
    columns = {int(code): (keys, column) for column, code in enumerate(key_codes)}
    columns |= {int(code): (buttons, column) for column, code in enumerate(button_codes)}
    for code in range(len(events.codes)):
        changes = switches.changes(code)
        if code in columns:
            _fill(*columns[code], changes)
    key_names = tuple(events.codes[code] for code in key_codes)
    span_us = spans(frame_us, policy=alignment.policy, window_us=alignment.window_us)
    known = np.minimum(frames.begin, frames.held) >= switches.unknown_until
    mask_names, masks = _masks(frame_us, events, alignment.latency_us)
    if "unknown" in mask_names:
        known &= masks[:, mask_names.index("unknown")] == 0
    return Actions(
        key_names=key_names,
        w3c_codes=_w3c_codes(events, key_codes),
        keys=keys.held,
        keys_any=keys.any,
        key_presses=keys.presses,
        key_releases=keys.releases,
        button_names=button_names,
        buttons=buttons.held,
        buttons_any=buttons.any,
        button_presses=buttons.presses,
        button_releases=buttons.releases,
        mouse=_mouse(events, alignment),
        mouse_unit=events.mouse_unit,
        scroll=_sums(events, alignment, _SCROLL),
        axis_names=axis_names,
        axes=_last_values(events, axis_codes, frames.end),
        mask_names=mask_names,
        masks=masks,
        span_us=span_us,
        valid=(_whole(frame_us, span_us, alignment) & known).astype(np.uint8),
        auto_repeats=switches.auto_repeats,
        orphan_releases=switches.orphan_releases,
    )


def _locate(frame_us: NDArray[np.int64], events: InputEvents, alignment: Alignment) -> _Frames:
    begin = alignment.begin
    end = begin + np.diff(alignment.offsets)
    held = events_until(frame_us, events.timestamp_us, latency_us=alignment.latency_us)
    return _Frames(begin=begin, end=end, held=held)


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
    coded = events.code >= 0
    axis = np.zeros(len(events.codes), bool)
    axis[events.code[coded & (events.kind == _AXIS)]] = True
    switch = np.zeros(len(events.codes), bool)
    switch[events.code[coded & _switching(events)]] = True
    return pointer & axis, pointer & (switch | ~axis)


def _switching(events: InputEvents) -> NDArray[np.bool_]:
    """Return (M,) whether an event says that something went, or is, down or up."""
    switches: NDArray[np.bool_] = (events.kind <= _RELEASE) | (events.kind == _STATE)
    return switches


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


class _Switches:
    """Presses and releases, code by code, so that what is worked on stays small."""

    def __init__(self, events: InputEvents, alignment: Alignment, frames: _Frames) -> None:
        self._events, self._alignment = events, alignment
        places = np.flatnonzero(_switching(events) & (events.code >= 0))
        # numpy sorts 8 and 16 bits by counting, several times as fast.
        code = events.code[places].astype(np.min_scalar_type(len(events.codes)))
        self._places = places[np.argsort(code, kind="stable")]
        self._edges = np.append(0, np.cumsum(np.bincount(code, minlength=len(events.codes))))
        self._shown_any = _shown(frames.begin, len(events))
        self._shown_held = _shown(frames.held, len(events))
        self.auto_repeats = self.orphan_releases = self.unknown_until = 0
        """Counts of what changed nothing; after how many events all state is known. Complete
        once `changes` was called for every code."""

    def changes(self, code: int) -> _Changes:
        """Find what changed; count what did not."""
        places = self._places[self._edges[code] : self._edges[code + 1]]
        kind = self._events.kind[places]
        stated = kind == _STATE  # by a snapshot of what is held
        press = (kind == _PRESS) | (stated & (self._events.value[places, 0] != 0))
        down = np.zeros(len(places), bool)  # before the event
        down[1:] = press[:-1]
        if len(places) and not press[0] and not stated[0]:
            # A first event that is a release says that the key was down when logging began.
            self.unknown_until = max(self.unknown_until, int(places[0]) + 1)
        self.auto_repeats += int(np.count_nonzero(press & down & ~stated))
        self.orphan_releases += int(np.count_nonzero(~press & ~down & ~stated))
        changed = press != down
        event = places[changed]
        return _Changes(
            press=press[changed],
            frame=np.where(stated[changed], -1, self._alignment.frame[event]),
            assigned=self._alignment.frame[event],
            shown_any=self._shown_any[event],
            shown_held=self._shown_held[event],
        )


def _shown(before: NDArray[np.int64], num_events: int) -> NDArray[np.int32]:
    """Return (M,) the first frame with more events than that `before` it; N where there is none."""
    frames = np.arange(len(before) + 1, dtype=np.int32)
    return np.repeat(frames, np.diff(before, prepend=0, append=num_events))


def _empty_table(num_frames: int, num_columns: int) -> _Table:
    shape = (num_frames, num_columns)
    return _Table(
        held=np.zeros(shape, np.uint8),
        any=np.zeros(shape, np.uint8),
        presses=np.zeros(shape, np.uint16),
        releases=np.zeros(shape, np.uint16),
    )


def _fill(table: _Table, column: int, changes: _Changes) -> None:
    num_frames = len(table.held)
    releases, presses = _counts(changes.frame, changes.press, num_frames)
    table.releases[:, column] = releases
    table.presses[:, column] = presses
    table.held[:, column] = _down(changes.shown_held, num_frames)
    table.any[:, column] = _down(changes.shown_any, num_frames)
    down = changes.assigned[changes.press]
    table.any[down[down >= 0], column] = 1


def _counts(
    frame: NDArray[np.int64], press: NDArray[np.bool_], num_frames: int
) -> NDArray[np.int64]:
    """Return (2, N) how often each frame is released and pressed, as far as uint16 can say."""
    counts = np.bincount(2 * (frame + 1) + press, minlength=2 * (num_frames + 1))
    return np.minimum(counts.reshape(-1, 2)[1:].T, np.iinfo(np.uint16).max)


def _down(shown: NDArray[np.int32], num_frames: int) -> NDArray[np.uint8]:
    """Return (N,) 1 where an odd number of changes has been shown: they go down, up, down, ..."""
    changes = np.bincount(shown, minlength=num_frames + 1)[:num_frames]
    return np.cumsum(changes, dtype=np.uint8) & np.uint8(1)  # an overflow leaves odd odd


def _sums(
    events: InputEvents, alignment: Alignment, kind: int, value: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    """Return (N, 2) the sum of the values of each frame's events of one kind.

    Args:
        value: (M, 2) in place of `events.value`.
    """
    value = events.value if value is None else value
    num_frames = len(alignment.offsets) - 1
    chosen = np.flatnonzero((events.kind == kind) & (alignment.frame >= 0))
    frame = alignment.frame[chosen]
    sums = [np.bincount(frame, value[chosen, axis], minlength=num_frames) for axis in (0, 1)]
    return np.column_stack(sums).astype(np.float32)


def _mouse(events: InputEvents, alignment: Alignment) -> NDArray[np.float32]:
    """Return (N, 2) the sum of each frame's moves.

    A log that knows only where the pointer was has a move at every position but the first: the way
    from the one before.
    """
    if bool((events.kind == _MOVE).any()):
        return _sums(events, alignment, _MOVE)
    at = np.flatnonzero(events.kind == _POSITION)
    ways = np.zeros(events.value.shape, np.float64)
    ways[at[1:]] = np.diff(events.value[at].astype(np.float64), axis=0)
    return _sums(events, alignment, _POSITION, ways)


def _last_values(
    events: InputEvents, codes: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return (N, A) the last value of each axis among the first `end` events; 0 before any."""
    axes = np.zeros((len(end), len(codes)), np.float32)
    for column, code in enumerate(codes):
        mine = np.flatnonzero((events.kind == _AXIS) & (events.code == code))
        values = np.concatenate([np.zeros(1, np.float32), events.value[mine, 0]])
        axes[:, column] = values[np.searchsorted(mine, end)]
    return axes


def _whole(
    frame_us: NDArray[np.int64], span_us: NDArray[np.int64], alignment: Alignment
) -> NDArray[np.bool_]:
    """Return (N,) whether the span is all that a neighbour on each needed side would leave it."""
    if alignment.policy == "window":
        # A span always ends a window after its frame, and begins where the last one ended.
        joined = np.zeros(len(frame_us), bool)
        joined[1:] = span_us[1:, 0] == span_us[:-1, 1]
        return joined
    free = spans(frame_us, policy=alignment.policy, window_us=None)
    whole = np.ones(len(frame_us), bool)
    for side, infinite in enumerate((INT64_MIN, INT64_MAX)):
        whole &= (free[:, side] != infinite) & (span_us[:, side] == free[:, side])
    return whole
