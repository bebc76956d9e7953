"""The keys that stopped the recorder: pressed at the very end of a log, never released in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from playmill.inputs.events import DEVICES, KINDS, InputEvents
from playmill.inputs.w3c import w3c_code

LAST_US = 2_000_000
"""A chord is complete within so much time of the last event."""
_CHORD_KEYS = ("Control", "Alt", "Meta", "F")
"""Beginnings of the codes of keys, one of which is in every stop chord; a game's own keys, held at
the end because the player was still playing, are none."""
_PRESS, _RELEASE, _OTHER = (KINDS.index(kind) for kind in ("press", "release", "other"))


def stop_chord(events: InputEvents) -> NDArray[np.int64]:
    """Return the indices of the presses that make the stop chord, ascending; empty: there is none.

    They are the presses that nothing released from that of a control, alt, meta or function key
    on, if the last of them is within `LAST_US` of the last event.
    """
    none = np.zeros(0, np.int64)
    if not len(events):
        return none
    keyboard = events.device == DEVICES.index("keyboard")
    switches = np.flatnonzero(keyboard & (events.kind <= _RELEASE) & (events.code >= 0))
    last: dict[int, int] = dict(zip(events.code[switches].tolist(), switches.tolist(), strict=True))
    held = sorted(index for index in last.values() if events.kind[index] == _PRESS)
    while held and not _in_chords(_w3c(events, int(events.code[held[0]]))):
        del held[0]
    if not held or events.timestamp_us[-1] - events.timestamp_us[held[-1]] > LAST_US:
        return none
    return np.array(held, np.int64)


def _in_chords(code: str) -> bool:
    return code.startswith(_CHORD_KEYS[:-1]) or (code[:1] == _CHORD_KEYS[-1] and code[1:].isdigit())


def _w3c(events: InputEvents, code: int) -> str:
    if events.w3c_codes is not None:
        return events.w3c_codes[code]
    name = events.codes[code]
    # A side-less "ctrl" has no code, and is a control key all the same.
    return w3c_code(name) or w3c_code(f"left {name}")


def without_stop_chord(events: InputEvents) -> InputEvents:
    """Return `events` with the stop chord's presses as events of kind `other`: kept, not learnt."""
    kind = events.kind.copy()
    kind[stop_chord(events)] = _OTHER
    return replace(events, kind=kind)


def chord_names(events: InputEvents) -> tuple[str, ...]:
    """Return the log's names of the keys in the stop chord, in the order of pressing."""
    return tuple(events.codes[events.code[index]] for index in stop_chord(events).tolist())
