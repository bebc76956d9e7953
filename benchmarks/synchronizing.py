"""Giving 10 million events to 1 million frames, against sorting their times.

    python -m benchmarks.synchronizing [--frames 1000000] [--events 10000000]

The log is up to 9 ms out of order and has 16 keys. The first sketch's loop is timed on fewer events
of the same kind, and its time scaled: it does a fixed amount of work for each. Processor time is
counted (one thread each), so that other processes disturb little.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Row, print_table
from playmill import synchronizer
from playmill.alignment import actions
from playmill.inputs import InputEvents

NUM_KEYS = 16
LATE_US = 9_000
WINDOW_US = 100_000
SKETCH_EVENTS = 200_000
RUNS = 3


def make_log(
    num_frames: int, num_events: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], InputEvents]:
    """Return frame times, event times in the order of the log, and the events by time."""
    rng = np.random.default_rng(0)
    frame_us = np.arange(num_frames) * 33_333
    event_us = np.sort(rng.integers(0, frame_us[-1], num_events))
    logged = np.argsort(event_us + rng.integers(0, LATE_US, num_events), kind="stable")
    code = rng.integers(0, NUM_KEYS, num_events).astype(np.int32)
    kind = np.zeros(num_events, np.uint8)  # press, release, press ... of each key
    kind[np.argsort(code, kind="stable")[1::2]] = 1
    events = InputEvents(
        timestamp_us=event_us,
        device=np.zeros(num_events, np.uint8),
        kind=kind,
        code=code,
        codes=tuple(f"key{number:02}" for number in range(NUM_KEYS)),
        code_device=np.zeros(NUM_KEYS, np.uint8),
        value=np.zeros((num_events, 2), np.float32),
        raw=np.zeros(0, np.uint8),
        raw_offsets=np.zeros(num_events + 1, np.int64),
    )
    return frame_us, event_us[logged], events


def first_sketch(frame_us: NDArray[np.int64], event_us: NDArray[np.int64]) -> None:
    """Do what the project's first sketch did, event by event."""
    frames, inputs = deque(frame_us.tolist()), deque(event_us.tolist())
    synced: list[tuple[int, list[int]]] = []
    while frames and inputs:
        matching = []
        while inputs:
            if abs(inputs[0] - frames[0]) <= WINDOW_US:
                matching.append(inputs.popleft())
            elif inputs[0] < frames[0]:
                inputs.popleft()
            else:
                break
        synced.append((frames.popleft(), matching))


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least processor seconds of a few runs, and the last result."""
    seconds = []
    for _ in range(RUNS):
        started = time.process_time()
        result = run()
        seconds.append(time.process_time() - started)
    return min(seconds), result


def measure(num_frames: int, num_events: int) -> list[Row]:
    """Measure sort, alignment and actions."""
    frame_us, logged_us, events = make_log(num_frames, num_events)

    def align(event_us: NDArray[np.int64]) -> synchronizer.Alignment:
        return synchronizer.align(frame_us, event_us, policy="following", window_us=WINDOW_US)

    sort_s, _ = timed(lambda: np.sort(logged_us))
    align_s, _ = timed(lambda: align(logged_us))
    alignment = align(events.timestamp_us)
    actions_s, _ = timed(lambda: actions.build(frame_us, events, alignment))
    some = SKETCH_EVENTS * num_frames // num_events
    sketch_s, _ = timed(lambda: first_sketch(frame_us[:some], logged_us[:SKETCH_EVENTS]))
    sketch_s *= num_events / SKETCH_EVENTS
    both_s = align_s + actions_s
    what = "synchronize"
    return [
        Row(what, f"np.sort of {num_events:,} shuffled times", f"{sort_s:.2f} s"),
        Row(
            what, f"align to {num_frames:,} frames", f"{align_s:.2f} s", align_s / sort_s, "<= 2 s"
        ),
        Row(what, "align and /actions", f"{both_s:.2f} s", both_s / sort_s, "<= 5"),
        Row(what, "first sketch's loop (scaled)", f"{sketch_s:.1f} s", sketch_s / sort_s),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    arguments = parser.parse_args()
    print_table(measure(arguments.frames, arguments.events))


if __name__ == "__main__":
    main()
