"""Memory of an extracting process over 300 short chunks: does it grow?

    python -m benchmarks.memory [--chunks 300]

The encoder is the one without weights, so that what is watched is decoding, batching and parts. The
decoding process counts too.
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
CHUNK_FRAMES = 8
EARLY = 20


def extract_here(num_chunks: int) -> dict[str, float]:
    """Extract in this process; return the peaks, in MB, after an early chunk and the last."""
    from playmill import encoders
    from playmill.config import PipelineConfig
    from playmill.decode_process import DecodeProcess
    from playmill.extraction import Extractor
    from playmill.frame_processor import FrameProcessor
    from playmill.manifest import make_manifest
    from playmill.recording import read_recording

    config = PipelineConfig(encoder="mean_pixel", chunk_frames=CHUNK_FRAMES)
    encoder = encoders.load(config.encoder, device="cpu")
    processor = FrameProcessor.from_encoder(encoder, batch_size=config.batch_size, num_threads=1)
    recording = read_recording(RECORDING, identity="bench")
    peaks: list[float] = []
    peak = 0.0
    with (
        DecodeProcess() as decoder,
        tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch,
    ):
        manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder.spec)
        extractor = Extractor(processor, decoder)
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
    """Measure in a process of its own."""
    found = apart("benchmarks.memory", "--here", "--chunks", num_chunks)
    growth = found["last_mb"] / found["early_mb"]
    what = "memory over time"
    return [
        Row(what, f"peak after chunk {EARLY}", f"{found['early_mb']:.0f} MB"),
        Row(
            what, f"peak after chunk {num_chunks}", f"{found['last_mb']:.0f} MB", growth, "<= 1.03"
        ),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=300)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(extract_here(arguments.chunks)))
    else:
        print_table(measure(arguments.chunks))


if __name__ == "__main__":
    main()
