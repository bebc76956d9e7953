"""What others decode with, on the same video: run where installed, named where not.

    python -m benchmarks.peers [VIDEO]

Each decodes the first frames to full-size RGB, in order, in one thread of this process.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av

from benchmarks.table import PROJECT, Row, print_table

VIDEO = PROJECT / "examples" / "recordings" / "doom-640x480" / "video.mp4"
FRAMES = 600


def by_pyav(video: Path) -> Iterator[Any]:
    """Decode with what the project uses."""
    with av.open(str(video)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def by_torchcodec(video: Path) -> Iterator[Any]:
    """Decode with torchcodec."""
    decoders = importlib.import_module("torchcodec.decoders")
    yield from decoders.VideoDecoder(str(video), num_ffmpeg_threads=1)


def by_decord(video: Path) -> Iterator[Any]:
    """Decode with decord."""
    decord = importlib.import_module("decord")
    reader = decord.VideoReader(str(video), num_threads=1)
    yield from (reader[number].asnumpy() for number in range(len(reader)))


PEERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "PyAV": by_pyav,
    "torchcodec": by_torchcodec,
    "decord": by_decord,
}


def measure(video: Path) -> list[Row]:
    """Measure every peer that can be imported."""
    rows = []
    base = 0.0
    for name, decode in PEERS.items():
        try:
            started = time.process_time()
            count = sum(1 for _, _ in zip(range(FRAMES), decode(video), strict=False))
            rate = count / (time.process_time() - started)
        except (ImportError, OSError, RuntimeError) as error:
            absent = isinstance(error, ModuleNotFoundError)
            problem = "not installed" if absent else f"does not load: {type(error).__name__}"
            rows.append(Row("decode to RGB, peers", name, problem))
            continue
        base = base or rate
        rows.append(Row("decode to RGB, peers", name, f"{rate:.0f} frames/s", rate / base))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?", type=Path, default=VIDEO)
    print_table(measure(parser.parse_args().video))


if __name__ == "__main__":
    main()
