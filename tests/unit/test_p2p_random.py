"""Random recordings of open-p2p against a plain reading of docs/readers.md, frame by frame."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from playmill import synchronizer
from playmill.alignment import actions
from playmill.alignment.actions import Actions
from playmill.inputs import ReadOptions
from playmill.inputs.p2p import P2pReader
from tests.unit.p2p_samples import action, annotation, event, key_event, mouse, vector, write

KEYS = ["W", "A", "LeftShift"]
NUM_FRAMES = 12
JITTER_US = 15_000
Typed = list[tuple[int, str, bool]]
"""Time, key and whether it went down."""


class Played:
    """What a player did, picture by picture, and what a recorder writes of it.

    Args:
        with_events: it writes events beside what is held.
        with_times: it writes when pictures were taken.
    """

    def __init__(self, rng: Random, *, with_events: bool, with_times: bool) -> None:
        self.taken = [50_000 * n + rng.randrange(JITTER_US) for n in range(1, NUM_FRAMES + 1)]
        self.frames = np.array(
            [50_000 * n + rng.randrange(JITTER_US) for n in range(1, NUM_FRAMES + 1)], np.int64
        )
        self.with_events = with_events
        self.typed: list[Typed] = []
        self.moved: list[int] = []
        self.labels: list[list[str]] = []
        self.annotations: list[bytes] = []
        held: set[str] = set()
        for number, taken in enumerate(self.taken):
            typed = self._type(rng, number)
            for _, key, down in typed:
                (held.add if down else held.discard)(key)
            dx = rng.randint(-9, 9) or 1
            self.typed.append(typed)
            self.labels.append(sorted(held))
            self.moved.append(dx)
            events = [key_event(time, key, pressed=down) for time, key, down in typed]
            events.append(event(taken - 1, 5, vector(dx, 0)))
            self.annotations.append(
                annotation(
                    action(keys=self.labels[-1], mouse=mouse(delta=(dx, 0))),
                    taken_us=taken if with_times else 0,
                    events=events if with_events else [],
                )
            )

    def _type(self, rng: Random, number: int) -> Typed:
        """Return what was typed until a picture: some of it came late, with earlier times."""
        stop = self.taken[number]
        start = self.taken[number - 1] if number else stop - 40_000
        times = sorted(rng.randrange(start - 300, stop) for _ in range(rng.choice([0, 0, 1, 2, 4])))
        return [(time, rng.choice(KEYS), rng.random() < 0.6) for time in times]

    def held(self, frame: int) -> list[str]:
        """Return what the dataset should say is held at `frame`."""
        return self.labels[frame if self.with_events else frame + 1]

    def presses(self, frame: int, key: str) -> int:
        """Return how often `key` went down from `frame` to the next."""
        down = key in self.labels[frame]
        if not self.with_events:
            return int(key in self.labels[frame + 1] and not down)
        count = 0
        for _, typed, pressed in self.typed[frame + 1]:
            if typed == key:
                count += pressed and not down
                down = pressed
        return count


def labelled(folder: Path, played: Played) -> Actions:
    events = P2pReader().read(
        write(folder, *played.annotations), ReadOptions(line_us=played.frames)
    )
    alignment = synchronizer.align(
        played.frames, events.timestamp_us, policy="following", window_us=None
    )
    return actions.build(played.frames, events, alignment)


@pytest.mark.parametrize("with_times", [True, False], ids=["times", "no times"])
@pytest.mark.parametrize("with_events", [True, False], ids=["events", "labels"])
def test_rows_are_what_the_annotations_say(
    tmp_path: Path, with_events: bool, with_times: bool
) -> None:
    rng = Random(f"{with_events} {with_times}")
    for _ in range(40):
        played = Played(rng, with_events=with_events, with_times=with_times)
        made = labelled(tmp_path, played)
        for frame in range(NUM_FRAMES - 1):  # the last one has no label
            row = zip(made.key_names, made.keys[frame], strict=True)
            assert [key for key, down in row if down] == played.held(frame)
            for column, key in enumerate(made.key_names):
                assert made.key_presses[frame, column] == played.presses(frame, key)
            assert made.mouse[frame].tolist() == [played.moved[frame + 1], 0]
