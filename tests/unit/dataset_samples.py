"""Small datasets, made of arrays alone, for the tests of writing, reading and checking them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from playmill import synchronizer
from playmill.alignment import actions
from playmill.decoding.motion import COLUMNS
from playmill.inputs.events import DEVICES, KINDS, InputEvents, RejectedLines, pack_lines
from playmill.plan import frame_times_us
from playmill.storage import DatasetContent, FeatureBlocks, ImageBlocks

ZERO_US = 1_760_000_000_000_000
TIME_BASE = Fraction(1, 90_000)


def make_events(times_us: Sequence[int] = (), *, keys: Sequence[str] = ("w", "a")) -> InputEvents:
    """Press and release `keys` in turn at `times_us`, and move the mouse in between."""
    codes = tuple(sorted(keys))
    rows = []
    for place, _ in enumerate(times_us):
        if place % 3 == 2:
            rows.append((DEVICES.index("mouse"), KINDS.index("move"), -1, (place, -1)))
        else:
            kind = KINDS.index("release" if place % 3 else "press")
            rows.append((0, kind, (place // 3) % len(codes), (0, 0)))
    raw, raw_offsets = pack_lines([b'{"t":%d}' % time for time in times_us])
    bad, bad_offsets = pack_lines([b"no json", b""])
    return InputEvents(
        timestamp_us=np.array(times_us, np.int64),
        device=np.array([row[0] for row in rows], np.uint8),
        kind=np.array([row[1] for row in rows], np.uint8),
        code=np.array([row[2] for row in rows], np.int32),
        codes=codes,
        code_device=np.zeros(len(codes), np.uint8),
        value=np.array([row[3] for row in rows], np.float32).reshape(-1, 2),
        raw=raw,
        raw_offsets=raw_offsets,
        duplicates=1,
        rejected=RejectedLines(
            line=np.array([2, 9]),
            reason=("not JSON: é", "is empty"),
            raw=bad,
            raw_offsets=bad_offsets,
            total=3,
        ),
    )


def make_content(num_frames: int = 150, **changes: Any) -> DatasetContent:
    """Make the content of a session at 30 frames/s with a few events; `changes` replace fields.

    `events`, `policy`, `window_us` and `video` (name of the video, which decides its digest) are
    taken as changes too.
    """
    pts = changes.pop("pts", np.arange(num_frames, dtype=np.int64) * 3000 + 900)
    frame_us = frame_times_us(pts, time_base=TIME_BASE, pts_zero_us=ZERO_US)
    default = make_events(range(ZERO_US - 50_000, ZERO_US + 2_000_000, 7_919))
    events = changes.pop("events", default)
    alignment = synchronizer.align(
        frame_us,
        events.timestamp_us,
        policy=changes.pop("policy", "following"),
        window_us=changes.pop("window_us", 100_000),
        latency_us=changes.pop("latency_us", 0),
    )
    video = changes.pop("video", "play.mp4")
    fields: dict[str, Any] = {
        "session_id": "s-1",
        "dataset_key": "key-1",
        "clock": "unix_us",
        "metadata": {"schema": "gameplay-session/1", "game": "Doom – ünï"},
        "provenance": {"playmill": "test", "video": {"name": video, "digest": f"digest-{video}"}},
        "warnings": ["the log is short"],
        "pts": pts,
        "time_base": TIME_BASE,
        "pts_zero_us": ZERO_US,
        "timestamp_us": frame_us,
        "flags": np.zeros(len(pts), np.uint8),
        "motion": make_motion(len(pts)),
        "events": events,
        "alignment": alignment,
        "actions": actions.build(frame_us, events, alignment),
    }
    return DatasetContent(**(fields | changes))


def make_motion(num_frames: int) -> np.ndarray:
    """Return (num_frames, C) motion of random size; the first row is unknown."""
    shape = (num_frames, len(COLUMNS))
    motion = np.random.default_rng(2).normal(size=shape).astype(np.float16)
    motion[:, COLUMNS.index("change")] = np.abs(motion[:, COLUMNS.index("change")])
    motion[:1] = np.nan
    return motion


def make_matrix(num_frames: int = 150, *, dim: int = 24, seed: int = 0) -> np.ndarray:
    """Return (num_frames, dim) float16 features."""
    return np.random.default_rng(seed).normal(size=(num_frames, dim)).astype(np.float16)


def make_features(
    num_frames: int = 150, *, key: str = "encoder-a", dim: int = 24, seed: int = 0, block: int = 37
) -> FeatureBlocks:
    """Return `make_matrix` in blocks of `block` rows."""
    matrix = make_matrix(num_frames, dim=dim, seed=seed)
    return FeatureBlocks(
        key=key,
        dim=dim,
        attrs={
            "encoder": key,
            "weights_digest": "0" * 64,
            "preprocessing": "resize 224",
            "precision": "fp32",
            "runtime": "torch",
            "parts_key": "0" * 64,
        },
        blocks=(matrix[row : row + block] for row in range(0, num_frames, block)),
    )


def make_images(num_frames: int = 150, *, size: tuple[int, int] = (6, 8)) -> ImageBlocks:
    """Return pictures of random pixels, 40 in a block."""
    pixels = np.random.default_rng(1).integers(0, 256, (num_frames, *size, 3), np.uint8)
    return ImageBlocks(size=size, blocks=(pixels[i : i + 40] for i in range(0, num_frames, 40)))
