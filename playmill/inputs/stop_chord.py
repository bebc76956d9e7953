"""The keys that stopped the recorder: pressed at the very end of a log, never released in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from playmill.inputs.events import DEVICES, KINDS, InputEvents
from playmill.inputs.w3c import w3c_code
from playmill.inputs.windows_keys import SIDELESS

LAST_US = 2_000_000
"""A chord is complete within so much time of the last event."""
_CHORD_KEYS = ("Control", "Alt", "Meta", "F")
"""Beginnings of the codes of keys, one of which is in every stop chord; a game's own keys, held at
the end because the player was still playing, are none."""
_PRESS, _RELEASE, _STATE, _OTHER = (
    KINDS.index(kind) for kind in ("press", "release", "state", "other")
)


def stop_chord(events: InputEvents) -> NDArray[np.int64]:
    """Return the indices of the presses that make the stop chord, ascending; empty: there is none.

    They are the presses that nothing ended, auto-repeat included, of the keys that went down with
    or after the first control, alt, meta or function key among them; the last of these went down
    within `LAST_US` of the last event.
    """
    keyboard = (events.device == DEVICES.index("keyboard")) & (events.code >= 0)
    up = (events.kind == _RELEASE) | ((events.kind == _STATE) & (events.value[:, 0] == 0))
    ended = np.full(len(events.codes), -1, np.int64)
    np.maximum.at(ended, events.code[keyboard & up], np.flatnonzero(keyboard & up))
    presses = np.flatnonzero(keyboard & (events.kind == _PRESS))
    presses = presses[presses > ended[events.code[presses]]]
    codes, first = np.unique(events.code[presses], return_index=True)
    went_down = dict(sorted(zip(presses[first].tolist(), codes.tolist(), strict=True)))
    while went_down and not _in_chords(_w3c(events, next(iter(went_down.values())))):
        del went_down[next(iter(went_down))]
    if not went_down or events.timestamp_us[-1] - events.timestamp_us[max(went_down)] > LAST_US:
        return np.zeros(0, np.int64)
    return presses[np.isin(events.code[presses], list(went_down.values()))]


def _in_chords(code: str) -> bool:
    return code.startswith(_CHORD_KEYS[:-1]) or (code[:1] == _CHORD_KEYS[-1] and code[1:].isdigit())


def _w3c(events: InputEvents, code: int) -> str:
    if events.w3c_codes is not None and events.w3c_codes[code]:
        return events.w3c_codes[code]
    name = events.codes[code]
    # A side-less "ctrl" has no code, and is a control key all the same.
    return w3c_code(name) or w3c_code(f"left {name}") or _sideless(events, code)


def _sideless(events: InputEvents, code: int) -> str:
    """Return what a virtual key's number means that has no code; "" if the name is none."""
    # Only readers of such numbers give codes, and leave them out where they know none.
    if events.w3c_codes is None or not events.codes[code].isdecimal():
        return ""
    return SIDELESS.get(int(events.codes[code]), "")


def without_stop_chord(events: InputEvents) -> InputEvents:
    """Return `events` with the stop chord's presses as events of kind `other`: kept, not learnt."""
    kind = events.kind.copy()
    kind[stop_chord(events)] = _OTHER
    return replace(events, kind=kind)


def chord_names(events: InputEvents) -> tuple[str, ...]:
    """Return the names of the keys in the stop chord, in the order of pressing.

    A key has its KeyboardEvent.code, because a log may name it by a number; or the log's name where
    that has none.
    """
    codes = dict.fromkeys(events.code[stop_chord(events)].tolist())
    return tuple(_shown(events, code) for code in codes)


def _shown(events: InputEvents, code: int) -> str:
    given = events.w3c_codes[code] if events.w3c_codes is not None else ""
    name = events.codes[code]
    return given or w3c_code(name) or _sideless(events, code) or name
