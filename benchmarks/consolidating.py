"""Consolidating 10 hours of features, against the disk itself.

    python -m benchmarks.consolidating [--frames 1100000] [--log-events 0]

Real parts of random features become a published dataset, as the task does it, in a process of its
own, so that its peak memory can be told. The measure is a loop that reads the same files, writes
them into one, flushes it to disk and reads it once more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Row, apart, peak_bytes, print_table
from playmill.config import PipelineConfig
from playmill.decoding.motion import COLUMNS, PICTURE_SIZE
from playmill.jobs import Commit
from playmill.manifest import Manifest, file_digest
from playmill.parts import PartArray
from playmill.plan import Chunk
from playmill.publishing.row_source import PartRows
from playmill.recording import read_recording
from playmill.storage import DataStorage

DIM = 1280
CHUNK_FRAMES = 512
TICKS = 3000
"""Ticks of 1/90000 s from one frame to the next: 30 frames/s."""
ZERO_US = 1_760_000_000_000_000
KEYS = ("w", "a", "s", "d", "e", "q", "r", "f", "1", "2", "3", "4", "shift", "space", "ctrl", "tab")
COPY_BYTES = 1 << 20
RUNS = 3


def make_parts(folder: Path, num_frames: int) -> list[Commit]:
    """Write the parts of `num_frames` frames; return their commits."""
    rng = np.random.default_rng(0)
    commits = []
    for index, start in enumerate(range(0, num_frames, CHUNK_FRAMES)):
        count = min(CHUNK_FRAMES, num_frames - start)
        arrays = {
            "features": rng.integers(0x2000, 0x4000, (count, DIM), np.uint16).view(np.float16),
            "motion": rng.random((count, len(COLUMNS)), np.float32).astype(np.float16),
            "glances": rng.integers(0, 256, (2, *PICTURE_SIZE), np.uint8),
        }
        arrays["motion"][0] = np.nan
        commits.append(
            Commit(
                chunk_index=index,
                attempt="1",
                pts=array("q", range(TICKS * start, TICKS * (start + count), TICKS)),
                flags=array("B", bytes(count)),
                digests={
                    name: _write_array(folder / f"{index:06d}", name, rows)
                    for name, rows in arrays.items()
                },
                first_picture=f"first {index}",
                last_picture=f"last {index}",
                decoder="none",
                hardware="none",
                batch_size=8,
                seconds=0.0,
            )
        )
    return commits


def _write_array(part: Path, name: str, rows: NDArray[Any]) -> str:
    array = PartArray(part, name, rows.shape[1:], rows.dtype.name)
    array.append(rows)
    return array.seal()


def make_session(folder: Path, num_frames: int, num_events: int) -> None:
    """Write a recording whose video has no pictures, and its log."""
    folder.mkdir()
    (folder / "video.mp4").write_bytes(b"no video")
    session = {
        "schema": "gameplay-session/1",
        "session_id": "bench",
        "inputs": {"file": "inputs.jsonl", "format": "jsonl", "time_unit": "us", "clock": "unix"},
        "video": {"file": "video.mp4", "pts_zero_us": ZERO_US},
    }
    (folder / "session.json").write_text(json.dumps(session), encoding="utf-8")
    step = num_frames * 1_000_000 // 30 / max(num_events, 1)
    with (folder / "inputs.jsonl").open("w", encoding="utf-8") as log:
        for event in range(num_events):
            kind = "key_up" if event // len(KEYS) % 2 else "key_down"
            line = {"t": ZERO_US + int(event * step), "type": kind, "key": KEYS[event % len(KEYS)]}
            log.write(json.dumps(line) + "\n")


def make_manifest(session: Path, commits: list[Commit]) -> Manifest:
    """Return the plan that the parts are of."""
    chunks = tuple(
        Chunk(
            index=commit.chunk_index,
            start_pts=commit.pts[0],
            stop_pts=commit.pts[-1] + TICKS,
            num_frames=len(commit.pts),
            first_packet=commit.pts[0] // TICKS,
            key_packet=commit.pts[0] // TICKS,
            stop_packet=commit.pts[-1] // TICKS + 1,
            seek_pts=commit.pts[0],
            seek_dts=commit.pts[0],
            seek_pos=-1,
            seek_size=1,
        )
        for commit in commits
    )
    return Manifest(
        session_id="bench",
        video_name="video.mp4",
        video_digest="0" * 64,
        codec="h264",
        width=1280,
        height=720,
        time_base=Fraction(1, 90_000),
        pts_zero_us=ZERO_US,
        clock="unix_us",
        session_digest=file_digest(session / "session.json"),
        log_digest=file_digest(session / "inputs.jsonl"),
        reader="gameplay-session/1",
        weights_digest="0" * 64,
        preprocessing="none",
        chunks=chunks,
        config=PipelineConfig(policy="nearest", window_us=100_000),
    )


def consolidate_here(folder: Path) -> dict[str, float]:
    """Consolidate what lies in `folder`, in this process; return seconds and peak MB."""
    from playmill.publishing.consolidation import consolidate

    commits = [Commit.from_json(json.loads(line)) for line in (folder / "commits").open()]
    manifest = make_manifest(folder / "session", commits)
    recording = read_recording(folder / "session", identity="session")
    parts = [folder / "parts" / f"{commit.chunk_index:06d}" for commit in commits]
    storage = DataStorage(folder / "datasets")
    started, cpu = time.perf_counter(), time.process_time()
    consolidate(recording, manifest, commits, source=PartRows(parts, commits), storage=storage)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    peak = peak_bytes() / 1e6
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak}


def copy_loop(parts: Path, target: Path) -> dict[str, float]:
    """Copy the parts into one file, flush it to disk, read it; return seconds."""
    started, cpu = time.perf_counter(), time.process_time()
    with target.open("wb") as file:
        for path in sorted(parts.glob("*/features/c*")):
            with path.open("rb") as source:
                while block := source.read(COPY_BYTES):
                    file.write(block)
        file.flush()
        os.fsync(file.fileno())
    with target.open("rb") as file:
        while file.read(COPY_BYTES):
            pass
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpu_s": time.process_time() - cpu}


@contextmanager
def prepared(num_frames: int, num_events: int) -> Iterator[Path]:
    """Make parts, commits and session in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as name:
        folder = Path(name)
        commits = make_parts(folder / "parts", num_frames)
        with (folder / "commits").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(commit.to_json()) + "\n" for commit in commits)
        make_session(folder / "session", num_frames, num_events)
        os.sync()
        yield folder


def measure(num_frames: int, num_events: int, runs: int = RUNS) -> list[Row]:
    """Measure both, turn by turn; the ratios are of the turns' medians."""
    with prepared(num_frames, num_events) as folder:
        loops, ours = [], []
        for _ in range(runs):
            loops.append(copy_loop(folder / "parts", folder / "copy"))
            (folder / "copy").unlink()
            ours.append(apart("benchmarks.consolidating", "--in", folder))
            shutil.rmtree(folder / "datasets")
    loop, own = ({name: _median(turns, name) for name in turns[0]} for turns in (loops, ours))
    size = f"{num_frames * DIM * 2 / 1e9:.1f} GB, {num_events:,} events"
    what = "consolidate"
    return [
        Row(what, f"read-write loop, fsync, one re-read ({size})", _shown(loop)),
        Row(what, "consolidate", _shown(own), loop["seconds"] / own["seconds"], ">= 0.7"),
        Row(what, "its peak memory", f"{own['peak_mb']:.0f} MB", aim="< 300 MB"),
    ]


def _median(turns: list[dict[str, float]], name: str) -> float:
    return float(np.median([turn[name] for turn in turns]))


def _shown(turn: dict[str, float]) -> str:
    return f"{turn['seconds']:.1f} s ({turn['cpu_s']:.1f} s of processor)"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1_100_000)
    parser.add_argument("--log-events", type=int, default=0)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(consolidate_here(arguments.folder)))
    else:
        print_table(measure(arguments.frames, arguments.log_events, arguments.runs))


if __name__ == "__main__":
    main()
