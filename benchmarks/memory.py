"""Memory of an extracting process: does it grow over 300 short chunks, and how much is it at all?

    python -m benchmarks.memory [--chunks 300]

For growth the encoder is the one without weights, so that what is watched is decoding, batching and
parts; the whole is that of the default encoder. The decoding process counts too, and pages that
both share count twice.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import psutil

from benchmarks.table import PROJECT, Row, apart, print_table

RECORDING = PROJECT / "examples" / "recordings" / "doom-640x480"
LARGE = tuple(
    PROJECT.parent / "shared" / "recordings" / "bench" / name
    for name in ("doom-1280x720-5min", "doom-1920x1080-60fps")
)
"""Beside the project, where they are."""
LARGE_CHUNKS = 2
CHUNK_FRAMES = 8
EARLY = 20


def extract_here(
    path: Path, encoder_name: str, chunk_frames: int, num_chunks: int
) -> dict[str, float]:
    """Extract in this process; return the peaks, in MB, after an early chunk and the last."""
    from playmill import encoders
    from playmill.config import PipelineConfig
    from playmill.decoding.process import DecodeProcess
    from playmill.extraction import Extractor
    from playmill.frame_processor import FrameProcessor
    from playmill.manifest import make_manifest
    from playmill.recording import read_recording

    config = PipelineConfig(encoder=encoder_name, chunk_frames=chunk_frames)
    encoder = encoders.load(config.encoder, device="cpu")
    processor = FrameProcessor.of_run(encoder, config)
    recording = read_recording(path, identity="bench")
    peaks: list[float] = []
    peak = 0.0
    with (
        DecodeProcess() as decoder,
        tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch,
    ):
        manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder.spec)
        extractor = Extractor(processor, decoder, config.num_passes)
        for _, chunk in zip(range(num_chunks), itertools.cycle(manifest.chunks), strict=False):
            folder = Path(scratch) / "part"
            extractor.extract(recording.source, chunk, manifest, folder=folder)
            shutil.rmtree(folder)
            peak = max(peak, _resident_mb())
            peaks.append(peak)
    return {"early_mb": peaks[min(EARLY, num_chunks) - 1], "last_mb": peaks[-1]}


def _resident_mb() -> float:
    me = psutil.Process()
    return sum(process.memory_info().rss for process in [me, *me.children(recursive=True)]) / 1e6


def measure(num_chunks: int) -> list[Row]:
    """Measure each in a process of its own."""
    arguments = ("--encoder", "mean_pixel", "--chunk-frames", CHUNK_FRAMES, "--chunks", num_chunks)
    found = apart("benchmarks.memory", "--here", RECORDING, *arguments)
    growth = found["last_mb"] / found["early_mb"]
    what = "memory over time"
    rows = [
        Row(what, f"peak after chunk {EARLY}", f"{found['early_mb']:.0f} MB"),
        Row(
            what, f"peak after chunk {num_chunks}", f"{found['last_mb']:.0f} MB", growth, "<= 1.03"
        ),
    ]
    for path in (path for path in LARGE if path.is_dir()):
        found = apart("benchmarks.memory", "--here", path, "--chunks", LARGE_CHUNKS)
        label = f"{path.name}, {LARGE_CHUNKS} chunks"
        rows.append(Row("memory of a worker", label, f"{found['last_mb']:.0f} MB", aim="<= 1 GB"))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=300)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--encoder", default="efficientnet_lite0", help=argparse.SUPPRESS)
    parser.add_argument("--chunk-frames", type=int, default=256, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        chunks = (arguments.chunk_frames, arguments.chunks)
        print(json.dumps(extract_here(arguments.here, arguments.encoder, *chunks)))
    else:
        print_table(measure(arguments.chunks))


if __name__ == "__main__":
    main()
