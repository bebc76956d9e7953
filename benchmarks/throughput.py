"""Frames per second of every way from a video to features, side by side on one machine.

    python -m benchmarks.throughput [RECORDING] [--seconds 60]

Paths: decoding alone, the model alone (the two ceilings), the first sketch's loop (one frame at a
time, PIL, batch 1), `pipeline.run()`, and the mill. Ratios are to `pipeline.run()`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
import torch
from torchvision import transforms

from playmill import __version__, encoders, pipeline
from playmill.config import PipelineConfig
from playmill.decode_process import DecodeProcess
from playmill.extraction import hardware_name
from playmill.frame_processor import FrameProcessor
from playmill.plan import cut

PROJECT = Path(__file__).resolve().parent.parent
BENCH = PROJECT.parent / "shared" / "recordings" / "bench" / "doom-1280x720-5min"
EXAMPLE = PROJECT / "examples" / "recordings" / "doom-640x480"
SKETCH_FRAMES = 150
MODEL_BATCHES = 20


def trimmed(recording: Path, folder: Path, seconds: float) -> Path:
    """Copy the first seconds of a recording, packet by packet; return the copy."""
    copy = folder / recording.name
    copy.mkdir()
    for name in ("session.json", "inputs.jsonl"):
        shutil.copyfile(recording / name, copy / name)
    with av.open(str(recording / "video.mp4")) as source:
        stream = source.streams.video[0]
        with av.open(str(copy / "video.mp4"), "w") as target:
            out = target.add_stream_from_template(stream)
            stop = seconds / float(stream.time_base)
            for packet in source.demux(stream):
                if packet.dts is None or (packet.is_keyframe and packet.pts >= stop):
                    break
                packet.stream = out
                target.mux(packet)
    return copy


class PeakMemory:
    """Watches the resident memory of process trees while a block runs, in MB."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        """Of the largest single process."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.2):
            for process in [me, *me.children(recursive=True)]:
                try:
                    self.peak_mb = max(self.peak_mb, process.memory_info().rss / 1e6)
                except psutil.NoSuchProcess:
                    continue

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def decode_alone(recording: Path, config: PipelineConfig) -> tuple[int, float]:
    """Decode to RGB in the decoding process, and do nothing with it."""
    video = recording / "video.mp4"
    with DecodeProcess() as decoder:
        chunks = cut(decoder.index(video), target_frames=config.chunk_frames)
        started = time.perf_counter()
        count = sum(1 for chunk in chunks for _ in decoder.frames(video, chunk))
        return count, time.perf_counter() - started


def model_alone(config: PipelineConfig) -> tuple[int, float]:
    """Run the backbone on pictures that are there already."""
    processor = FrameProcessor.from_encoder(
        encoders.load(config.encoder, device=config.device_class),
        precision=config.precision,
        batch_size=config.batch_size,
        num_threads=config.num_threads,
    )
    shape = (config.batch_size, *processor.model_input_size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    processor.extract(batch)
    started = time.perf_counter()
    for _ in range(MODEL_BATCHES):
        processor.extract(batch)
    return MODEL_BATCHES * config.batch_size, time.perf_counter() - started


def first_sketch(recording: Path, config: PipelineConfig) -> tuple[int, float]:
    """One frame at a time through PIL, as the project's first sketch did it."""
    torch.set_num_threads(config.num_threads)
    encoder = encoders.load(config.encoder, device="cpu")
    transform = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize(encoder.spec.input_size),
            transforms.ToTensor(),
            transforms.Normalize(encoder.spec.mean, encoder.spec.std),
        ]
    )
    count = 0
    with av.open(str(recording / "video.mp4")) as container, torch.no_grad():
        started = time.perf_counter()
        for frame in container.decode(video=0):
            encoder.module(transform(frame.to_ndarray(format="rgb24")).unsqueeze(0))
            count += 1
            if count == SKETCH_FRAMES:
                break
    return count, time.perf_counter() - started


def pipeline_run(recording: Path, config: PipelineConfig, folder: Path) -> tuple[int, float]:
    """The serial pipeline, from the recording to the published file, start-up included."""
    started = time.perf_counter()
    path = pipeline.run(recording, folder, config)
    seconds = time.perf_counter() - started
    from playmill.dataset import open_dataset

    with open_dataset(path) as dataset:
        return len(dataset), seconds


def mill_run(
    recording: Path, config: PipelineConfig, folder: Path, *, workers: int
) -> tuple[int, float]:
    """The mill, from the command to its end: start-up of Redis and workers included."""
    options = ["--chunk-frames", config.chunk_frames, "--batch-size", config.batch_size]
    command = ["run", recording, "--datasets", folder, "--json", "--workers", workers, *options]
    started = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "playmill.cli", *map(str, command)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    seconds = time.perf_counter() - started
    return int(json.loads(result.stdout)[0]["frames"]), seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = BENCH if BENCH.is_dir() else EXAMPLE
    parser.add_argument("recording", nargs="?", type=Path, default=default)
    parser.add_argument("--seconds", type=float, default=60.0, help="how much of it")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    config = PipelineConfig()
    print(f"playmill {__version__}, {hardware_name()}, {os.cpu_count()} cores,")
    print(f"torch {torch.__version__}, {arguments.recording.name}, {arguments.seconds:.0f} s\n")
    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch:
        folder = Path(scratch)
        recording = trimmed(arguments.recording, folder, arguments.seconds)
        paths: dict[str, Callable[[], tuple[int, float]]] = {
            "decoding alone, to RGB": lambda: decode_alone(recording, config),
            "model alone": lambda: model_alone(config),
            "first sketch's loop": lambda: first_sketch(recording, config),
            "pipeline.run()": lambda: pipeline_run(recording, config, folder / "serial"),
        }
        for workers in arguments.workers:
            paths[f"mill, {workers} worker(s)"] = lambda workers=workers: mill_run(
                recording, config, folder / f"mill{workers}", workers=workers
            )
        rows = []
        for name, measure in paths.items():
            with PeakMemory() as memory:
                count, seconds = measure()
            rows.append((name, count, seconds, count / seconds, memory.peak_mb))
            print(f"  {name}: {count / seconds:.1f} frames/s", file=sys.stderr)
    base = next(rate for name, _, _, rate, _ in rows if name == "pipeline.run()")
    print("| path | frames | seconds | frames/s | ratio | peak MB of a process |")
    print("|---|---|---|---|---|---|")
    for name, count, seconds, rate, peak in rows:
        print(f"| {name} | {count} | {seconds:.1f} | {rate:.1f} | {rate / base:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
