"""Scenes for the tests of lag: a game that moves a window over a wall, and real recordings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from playmill.decoding.motion import PICTURE_SIZE, motion_rows
from playmill.decoding.pictures import GrayConverter
from playmill.inputs import DEVICES, KINDS, InputEvents
from tests.unit.log_samples import read_native

Event = tuple[int, str, str, str, float, float]
"""time, kind, device, name or "", x, y"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scene:
    """What `estimate_lag` takes."""

    frame_us: NDArray[np.int64]
    motion: NDArray[np.float16]
    events: InputEvents

    @property
    def parts(self) -> tuple[NDArray[np.int64], NDArray[np.float16], InputEvents]:
        """Return the arguments of `estimate_lag`."""
        return self.frame_us, self.motion, self.events


def log_of(events: Sequence[Event]) -> InputEvents:
    """Return a log with these events."""
    events = sorted(events, key=lambda event: event[0])
    codes = sorted({(device, name) for _, _, device, name, _, _ in events if name})
    return InputEvents(
        timestamp_us=np.array([event[0] for event in events], np.int64),
        device=np.array([DEVICES.index(event[2]) for event in events], np.uint8),
        kind=np.array([KINDS.index(event[1]) for event in events], np.uint8),
        code=np.array([codes.index(event[2:4]) if event[3] else -1 for event in events], np.int32),
        codes=tuple(name for _, name in codes),
        code_device=np.array([DEVICES.index(device) for device, _ in codes], np.uint8),
        value=np.array([event[4:] for event in events], np.float32).reshape(-1, 2),
        raw=np.zeros(0, np.uint8),
        raw_offsets=np.zeros(len(events) + 1, np.int64),
    )


def draw_wall(rng: np.random.Generator, size: tuple[int, int] = (300, 4000)) -> NDArray[np.float64]:
    """Return a wall with structure at all sizes, values about 0 to 255."""
    wall = np.zeros(size)
    for block in (2, 4, 8, 16, 32):
        coarse = rng.normal(size=(size[0] // block + 1, size[1] // block + 1))
        wall += np.kron(coarse, np.ones((block, block)))[: size[0], : size[1]]
    for axis in (0, 1):
        wall = (wall + np.roll(wall, 1, axis) + np.roll(wall, -1, axis)) / 3
    return 127 + 28 * wall


def look(wall: NDArray[np.float64], x: float, y: float) -> NDArray[np.uint8]:
    """Return the picture seen at (x, y) of the wall, between its points."""
    height, width = PICTURE_SIZE
    column, row = int(np.floor(x)), int(np.floor(y))
    seen = wall[row : row + height + 1, column : column + width + 1]
    across = seen[:, :-1] + (x - column) * (seen[:, 1:] - seen[:, :-1])
    both = across[:-1] + (y - row) * (across[1:] - across[:-1])
    return np.clip(np.rint(both), 0, 255).astype(np.uint8)


def frame_times(rng: np.random.Generator, *, seconds: float, fps: float = 30) -> NDArray[np.int64]:
    """Return times of a recorder whose frames come more or less late."""
    steps = rng.uniform(0.6, 1.4, int(seconds * fps)) / fps
    return 1_700_000_000_000_000 + np.cumsum(steps * 1e6).astype(np.int64)


def mouse_events(rng: np.random.Generator, start_us: int, stop_us: int) -> list[Event]:
    """Return the moves of a hand that swings about, with rests; 125 a second."""
    times = np.arange(start_us, stop_us, 8000) + rng.integers(0, 3000)
    drive = np.convolve(rng.normal(size=(len(times), 2)).sum(axis=1), np.ones(20), "same")
    resting = np.repeat(rng.random(len(times) // 250 + 1) < 0.4, 250)[: len(times)]
    moves = np.where(resting, 0, np.rint(0.7 * drive))
    pairs = zip(times.tolist(), moves.tolist(), strict=True)
    return [(time, "move", "mouse", "", move, 0.0) for time, move in pairs if move]


def key_events(
    rng: np.random.Generator, start_us: int, stop_us: int, names: str = "ad"
) -> list[Event]:
    """Return keys that are held for a while, one after the other."""
    events: list[Event] = []
    time = start_us
    while time < stop_us:
        name = names[int(rng.integers(len(names)))]
        held_us, free_us = (int(value) for value in rng.uniform(80_000, 700_000, 2))
        events += [
            (time, "press", "keyboard", name, 0, 0),
            (time + held_us, "release", "keyboard", name, 0, 0),
        ]
        time += held_us + free_us
    return events


def play(
    rng: np.random.Generator,
    frame_us: NDArray[np.int64],
    events: Sequence[Event],
    *,
    lag_us: int,
    tic_us: int = 1,
    noise: float = 2.0,
) -> NDArray[np.uint8]:
    """Return what a game shows that reacts to `events` after `lag_us`, at its next tic.

    A mouse movement moves the view at once, 0.05 points a count; `a` and `d` move it for as long as
    they are held, and half of a quarter second is needed to reach full speed.
    """
    wall = draw_wall(rng)
    clock = np.arange(int(frame_us[0]) - 10**6, int(frame_us[-1]) + 10**6, 1000)
    speed, turned = np.zeros(len(clock)), np.zeros(len(clock))
    for time, kind, _, name, x, _ in events:
        tic = -(-(time + lag_us) // tic_us)
        at = int(np.searchsorted(clock, tic * tic_us))
        if kind == "move":
            turned[at:] += 0.05 * x
        elif name in ("a", "d"):
            speed[at:] += (1 if name == "d" else -1) * (1 if kind == "press" else -1)
    eased = np.convolve(speed, np.exp(-np.arange(1000) / 125) / 125)[: len(clock)]
    x = 2000 + turned + np.cumsum(0.03 * eased)
    x = 100 + np.abs((x - 100) % 7000 - 3500)  # to and fro, so that the wall never ends
    pictures = [look(wall, float(place), 100.0) for place in np.interp(frame_us, clock, x)]
    noisy = np.array(pictures) + rng.normal(scale=noise, size=(len(frame_us), *PICTURE_SIZE))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def read_scene(folder: Path, *, num_frames: int) -> Scene:
    """Return the beginning of a gameplay-session/1 recording, with all its inputs."""
    session = json.loads((folder / "session.json").read_text(encoding="utf-8"))
    convert = GrayConverter()
    with av.open(str(folder / session["video"]["file"])) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        frames = itertools.islice(container.decode(stream), num_frames)
        found = [(frame.pts, convert(frame)) for frame in frames]
    zero_us = session["video"]["pts_zero_us"]
    times = [zero_us + round(pts * base * 1_000_000) for pts, _ in found]
    return Scene(
        frame_us=np.array(times, np.int64),
        motion=motion_rows(np.array([picture for _, picture in found])),
        events=read_native(folder / session["inputs"]["file"]),
    )
