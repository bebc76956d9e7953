"""What a dataset holds, before it is a file: arrays, and blocks of what is too large to hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import schema
from playmill.alignment.actions import Actions
from playmill.inputs.events import InputEvents
from playmill.synchronizer import Alignment


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DatasetContent:
    """All of a dataset but its features and pictures."""

    session_id: str
    """The recording's own name for the session."""
    dataset_key: str
    """Digest of all that decides the content; equal keys are equal datasets."""
    clock: str
    """"unix_us" or "stream"."""
    metadata: Mapping[str, Any]
    """session.json as read."""
    provenance: Mapping[str, Any]
    """Versions, digests, configuration; its `video`: {"name", "digest", ...} says which video."""
    warnings: Sequence[str]
    """What to know before use."""
    pts: NDArray[np.int64]
    """(N,) stream ticks, strictly increasing."""
    time_base: Fraction
    """Seconds per tick."""
    pts_zero_us: int
    """Clock time of pts 0, microseconds."""
    timestamp_us: NDArray[np.int64]
    """(N,) strictly increasing."""
    flags: NDArray[np.uint8]
    """(N,) bits by schema.FRAME_FLAGS."""
    motion: NDArray[np.float16] | None
    """(N, C) `motion.COLUMNS`; None: unknown, and not stored."""
    events: InputEvents
    """The log."""
    alignment: Alignment
    """Which event belongs to which frame."""
    actions: Actions
    """What the player did, frame by frame."""
    controls: Mapping[str, str] = field(default_factory=dict)
    """Input name -> meaning in the game."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """How good the alignment is (`alignment_report`)."""

    def __post_init__(self) -> None:
        count = len(self.timestamp_us)
        if count == 0:
            raise ValueError("a dataset needs at least one frame")
        for name, array in (("pts", self.pts), ("flags", self.flags)):
            if array.shape != (count,):
                raise ValueError(f"{name} has shape {array.shape}, not ({count},)")
        if {"name", "digest"} - set(self.provenance.get("video", ())):
            raise ValueError("provenance needs video: {name, digest}")
        if self.clock not in schema.CLOCKS:
            raise ValueError(f"clock is {self.clock!r}; choose one of {', '.join(schema.CLOCKS)}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageBlocks:
    """Pictures of all frames, block by block in their order."""

    size: tuple[int, int]
    """(H, W)"""
    blocks: Iterable[NDArray[np.uint8]]
    """(n, H, W, 3) RGB each, N in all; read once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureBlocks:
    """The features of one encoder, block by block in the order of frames."""

    key: str
    """Name under /features."""
    dim: int
    """D, length of a feature vector."""
    attrs: Mapping[str, str]
    """encoder, weights_digest, preprocessing, precision, runtime, parts_key."""
    blocks: Iterable[NDArray[np.float16]]
    """(n, D) each, N rows in all; read once."""

    def __post_init__(self) -> None:
        if not schema.is_feature_key(self.key):
            raise ValueError(f"feature key {self.key!r} must match {schema.FEATURE_KEY.pattern}")
        if set(self.attrs) != set(schema.FEATURE_ATTRS):
            wanted = ", ".join(schema.FEATURE_ATTRS)
            raise ValueError(f"attrs of features are {wanted}, not {', '.join(self.attrs)}")
