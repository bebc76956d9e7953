"""Manifests, commits, requests and session folders, made of values, for the tests of jobs."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from playmill.config import PipelineConfig, digest_of
from playmill.jobs import Commit, Request
from playmill.manifest import Manifest, SourceFile
from playmill.plan import Chunk
from playmill.roots import RootedPath

ZERO_US = 1_760_000_000_000_000
TICKS = 3000
"""Ticks of 1/90000 s from one frame to the next: 30 frames/s."""


def make_chunk(index: int, *, num_frames: int = 4) -> Chunk:
    """Make chunk `index` of a video whose chunks all have `num_frames` frames."""
    first = index * num_frames
    return Chunk(
        index=index,
        start_pts=first * TICKS,
        stop_pts=(first + num_frames) * TICKS,
        num_frames=num_frames,
        first_packet=first,
        key_packet=first,
        stop_packet=first + num_frames,
        seek_pts=first * TICKS,
        seek_dts=first * TICKS,
        seek_pos=1000 * first,
        seek_size=100,
    )


def make_manifest(
    *, chunks: int = 2, num_frames: int = 4, config: PipelineConfig | None = None, **changed: Any
) -> Manifest:
    """Make a manifest; `changed` replaces its values."""
    values: dict[str, Any] = {
        "session_id": "sample",
        "video_name": "video.mp4",
        "video_digest": digest_of("video"),
        "codec": "h264",
        "width": 64,
        "height": 48,
        "time_base": Fraction(1, 90_000),
        "pts_zero_us": ZERO_US,
        "clock": "unix_us",
        "session_digest": digest_of("session"),
        "log_digest": digest_of("log"),
        "reader": "gameplay-session/1",
        "weights_digest": digest_of("weights"),
        "preprocessing": "none",
        "chunks": tuple(make_chunk(index, num_frames=num_frames) for index in range(chunks)),
        "config": config or PipelineConfig(policy="following", window_us=100_000),
    }
    return Manifest(**values | changed)


def make_commit(index: int = 0, pts: Sequence[int] | None = None, **changed: Any) -> Commit:
    """Make the commit of chunk `index` of `make_manifest`'s video; `changed` replaces values."""
    if pts is None:
        pts = [(4 * index + row) * TICKS for row in range(4)]
    values: dict[str, Any] = {
        "chunk_index": index,
        "attempt": "1-00000000",
        "pts": array("q", pts),
        "flags": array("B", bytes(len(pts))),
        "digests": {"features": digest_of("features", index)},
        "first_picture": f"first {index}" if pts else "",
        "last_picture": f"last {index}" if pts else "",
        "decoder": "none",
        "hardware": "none",
        "batch_size": 16,
        "seconds": 0.5,
    }
    return Commit(**values | changed)


def make_request(name: str = "session", *, submitted_ns: int = 1, **config: Any) -> Request:
    """Make a request for a recording of this name."""
    return Request.make(
        RootedPath("root", name),
        (SourceFile(path="session.json", size=10, mtime_ns=20),),
        PipelineConfig(**config),
        submitted_ns=submitted_ns,
    )


def make_session(folder: Path, **changed: Any) -> dict[str, Any]:
    """Write a gameplay-session/1 folder whose video has no pictures; return its session.json.

    Args:
        changed: by place ("video__file" for video.file); None takes a value out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    session: dict[str, Any] = {
        "schema": "gameplay-session/1",
        "session_id": folder.name,
        "inputs": {"file": "inputs.jsonl", "format": "jsonl", "time_unit": "us", "clock": "unix"},
        "video": {"file": "video.mp4", "pts_zero_us": ZERO_US},
    }
    for place, value in changed.items():
        *path, name = place.split("__")
        inner = session
        for step in path:
            inner = inner[step]
        if value is None:
            del inner[name]
        else:
            inner[name] = value
    (folder / "video.mp4").write_bytes(b"no video")
    (folder / "inputs.jsonl").write_bytes(b"")
    (folder / "session.json").write_text(json.dumps(session), encoding="utf-8")
    return session
