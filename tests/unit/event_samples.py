"""Input logs, made of a few tuples, for the tests of what is computed from events."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from playmill.inputs import DEVICES, KINDS, InputEvents

Event = tuple[int, str, str, str | None, tuple[float, float]]
"""time, device, kind, name, value"""


def log_of(events: list[Event]) -> InputEvents:
    events = sorted(events, key=lambda event: event[0])
    codes = sorted({(name, DEVICES.index(device)) for _, device, _, name, _ in events if name})
    place = {code: index for index, code in enumerate(codes)}
    rows = [place.get((name, DEVICES.index(device)), -1) for _, device, _, name, _ in events]
    return InputEvents(
        timestamp_us=np.array([event[0] for event in events], np.int64),
        device=np.array([DEVICES.index(event[1]) for event in events], np.uint8),
        kind=np.array([KINDS.index(event[2]) for event in events], np.uint8),
        code=np.array(rows, np.int32),
        codes=tuple(name for name, _ in codes),
        code_device=np.array([device for _, device in codes], np.uint8),
        value=np.array([event[4] for event in events], np.float32).reshape(-1, 2),
        raw=np.zeros(0, np.uint8),
        raw_offsets=np.zeros(len(events) + 1, np.int64),
    )


def key(time: int, kind: str, name: str = "w", device: str = "keyboard") -> Event:
    return (time, device, kind, name, (0, 0))


switches = st.builds(
    key,
    st.integers(0, 60),
    st.sampled_from(["press", "release"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["keyboard", "mouse", "gamepad"]),
)
counts = st.tuples(st.integers(-9, 9), st.integers(-9, 9))
moves = st.tuples(
    st.integers(0, 60), st.just("mouse"), st.sampled_from(["move", "scroll"]), st.none(), counts
)
snapshots = st.tuples(
    st.integers(0, 60),
    st.sampled_from(["keyboard", "mouse"]),
    st.just("state"),
    st.sampled_from(["a", "b"]),
    st.sampled_from([(1, 0), (0, 0)]),
)
positions = st.tuples(st.integers(0, 60), st.just("mouse"), st.just("position"), st.none(), counts)
