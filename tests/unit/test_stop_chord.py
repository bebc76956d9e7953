"""The keys that stopped the recorder are found, and kept out of /actions if that is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from playmill.inputs import KINDS
from playmill.inputs.stop_chord import chord_names, stop_chord, without_stop_chord
from tests.unit.event_samples import Event, key, log_of

SECOND = 1_000_000
PLAYED = [key(0, "press", "w"), key(SECOND, "press", "ctrl"), key(2 * SECOND, "release", "ctrl")]
STOPPED = [*PLAYED, key(9 * SECOND, "press", "ctrl"), key(9_500_000, "press", "c")]

CHORDS: dict[str, tuple[list[Event], tuple[str, ...]]] = {
    "control and c": (STOPPED, ("ctrl", "KeyC")),
    "a key held by the player was pressed before": (PLAYED, ()),
    "a function key": ([*PLAYED, key(9 * SECOND, "press", "f12")], ("F12",)),
    "a letter f is no function key": ([*PLAYED, key(9 * SECOND, "press", "f")], ()),
    "released again": ([*STOPPED, key(9_600_000, "release", "ctrl")], ()),
    "auto-repeat": ([*STOPPED, key(9_800_000, "press", "c")], ("ctrl", "KeyC")),
    "a snapshot says that it is up": (
        [*STOPPED, (9_600_000, "keyboard", "state", "ctrl", (0, 0))],
        (),
    ),
    "a snapshot says that it is down": (
        [*STOPPED, (9_600_000, "keyboard", "state", "ctrl", (1, 0))],
        ("ctrl", "KeyC"),
    ),
    "long before the end": (
        [*STOPPED, (12 * SECOND, "mouse", "move", None, (1, 0))],
        (),
    ),
    "a mouse button called ctrl": ([key(0, "press", "ctrl", "mouse")], ()),
    "nothing": ([], ()),
}


@pytest.mark.parametrize(("events", "names"), CHORDS.values(), ids=CHORDS)
def test_the_chord_is_found(events: list[Event], names: tuple[str, ...]) -> None:
    assert chord_names(log_of(events)) == names


def test_codes_that_the_reader_gives_are_believed() -> None:
    events = log_of([key(0, "press", "162"), key(1, "press", "67")])
    assert chord_names(events) == ()
    named = replace(events, w3c_codes=("ControlLeft", "KeyC"))
    assert chord_names(named) == ("ControlLeft", "KeyC")


def test_a_virtual_key_without_a_side_is_a_key_of_chords() -> None:
    events = log_of([key(0, "press", "17"), key(1, "press", "120")])
    named = replace(events, w3c_codes=tuple({"120": "F9"}.get(name, "") for name in events.codes))
    assert chord_names(named) == ("Control", "F9")


def test_auto_repeat_is_trimmed_too() -> None:
    log = log_of([*STOPPED, key(9_800_000, "press", "ctrl"), key(9_900_000, "press", "c")])
    assert stop_chord(log).tolist() == [3, 4, 5, 6]
    assert len(stop_chord(without_stop_chord(log))) == 0


def test_codes_that_the_reader_does_not_know_are_found_by_name() -> None:
    log = replace(log_of(STOPPED), w3c_codes=("KeyC", "", "KeyW"))
    assert chord_names(log) == ("ctrl", "KeyC")


def test_trimmed_presses_stay_as_other_events() -> None:
    log = log_of(STOPPED)
    trimmed = without_stop_chord(log)
    changed = stop_chord(log)
    assert [KINDS[kind] for kind in trimmed.kind[changed]] == ["other", "other"]
    assert len(trimmed) == len(log)
    assert chord_names(trimmed) == ()
    assert without_stop_chord(trimmed).kind.tolist() == trimmed.kind.tolist()
