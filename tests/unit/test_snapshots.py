"""Snapshots of held keys correct the state where events do not say it, and nowhere else."""

from __future__ import annotations

import random

import pytest

from playmill.inputs import KINDS
from playmill.inputs.event_table import EventTable, what
from playmill.inputs.snapshots import Snapshots

PRESS, RELEASE = what("keyboard", "press"), what("keyboard", "release")


def corrections(
    switches: list[tuple[int, str, bool]], shots: list[tuple[int, str]], settle_us: int = 50
) -> list[tuple[int, str, float]]:
    """Return the states that are added; keys are letters, a snapshot is a word of them."""
    table, snapshots = EventTable(), Snapshots(settle_us=settle_us)
    for time_us, key, down in switches:
        code = table.code("keyboard", key, field_name="key")
        table.add(time_us, PRESS if down else RELEASE, code=code)
        snapshots.switched(time_us, "keyboard", code, down=down)
    for time_us, keys in shots:
        codes = [table.code("keyboard", key, field_name="key") for key in keys]
        snapshots.taken(time_us, "keyboard", codes)
    snapshots.correct(table)
    events = table.freeze()
    return [
        (int(events.timestamp_us[i]), events.codes[events.code[i]], float(events.value[i, 0]))
        for i in range(len(events))
        if KINDS[events.kind[i]] == "state"
    ]


def test_a_snapshot_that_agrees_adds_nothing() -> None:
    assert not corrections([(0, "w", True), (900, "w", False)], [(500, "w"), (2000, "")])


def test_a_key_that_was_held_before_the_log_began() -> None:
    assert corrections([], [(1000, "w"), (2000, "w"), (3000, "")]) == [
        (1000, "w", 1),
        (3000, "w", 0),
    ]


def test_a_lost_release_is_mended_once() -> None:
    assert corrections([(0, "w", True)], [(500, "w"), (1000, ""), (2000, "")]) == [(1000, "w", 0)]


def test_a_lost_press_is_mended_and_the_release_stays() -> None:
    assert corrections([(2500, "w", False)], [(1000, ""), (2000, "w")]) == [(2000, "w", 1)]


def test_what_changes_around_a_snapshot_is_not_taken_from_it() -> None:
    # Pressed just before it, and released just after it: neither is in the snapshot.
    assert not corrections([(960, "w", True)], [(1000, "")])
    assert not corrections([(0, "w", True), (1050, "w", False)], [(1000, "")])
    assert corrections([(949, "w", True)], [(1000, "")]) == [(1000, "w", 0)]


def test_events_and_snapshots_may_come_in_any_order() -> None:
    switches = [(5000, "w", False), (4000, "w", True), (0, "w", True), (1000, "w", False)]
    assert not corrections(switches, [(4500, "w"), (2000, ""), (500, "w")])


def test_each_device_is_of_its_own() -> None:
    table, snapshots = EventTable(), Snapshots(settle_us=0)
    key = table.code("keyboard", "left", field_name="key")
    button = table.code("mouse", "left", field_name="button")
    snapshots.switched(1, "keyboard", key, down=True)
    snapshots.switched(2, "mouse", button, down=True)
    snapshots.taken(10, "mouse", [])
    snapshots.correct(table)
    events = table.freeze()
    assert events.timestamp_us.tolist() == [10]
    assert events.code_device[events.code[0]] == 1


@pytest.mark.parametrize("seed", range(100))
def test_corrections_are_those_of_a_plain_walk_through_time(seed: int) -> None:
    rng = random.Random(seed)
    times = sorted(rng.sample(range(3000), 40))
    switches = [(time, rng.choice("wad"), rng.random() < 0.6) for time in times]
    shots = [(time, "".join(rng.sample("wads", rng.randrange(4)))) for time in range(0, 3000, 211)]
    down: dict[str, bool] = dict.fromkeys("wads", False)
    expected = []
    for time, said, pressed in sorted(
        [*switches, *((*shot, None) for shot in shots)], key=lambda one: one[0]
    ):
        if pressed is not None:
            down[said] = pressed
            continue
        for key in sorted(down):
            near = any(abs(at - time) <= 50 for at, switched, _ in switches if switched == key)
            if not near and down[key] is not (key in said):
                down[key] = key in said
                expected.append((time, key, float(down[key])))
    assert sorted(corrections(switches, shots)) == sorted(expected)
