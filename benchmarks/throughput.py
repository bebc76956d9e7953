"""Frames per second of every way from a video to features, side by side on one machine.

    python -m benchmarks.throughput [RECORDING] [--seconds 60] [--rounds 3]

Paths: decoding without scaling and the model on batches that lie in memory (together the ceiling of
one after the other on the same cores); the first sketch's loop (one frame at a time, PIL) and a
plain batched loop, both with timm's model; `pipeline.run()`, and the mill. These two have a
start-up, which two lengths of one recording tell apart from the rest. Every round runs each path
once; medians are printed, because what else runs on a machine comes and goes. CPU milliseconds a
frame, of all processes of a path, suffer less from that than frames a second. Before that: how near
the features come to the reference path (full-size RGB, torchvision's Resize, fp32, one frame at a
time).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import av
import numpy as np
import timm
import torch
from torchvision import transforms

from playmill import __version__, encoders, pipeline
from playmill.config import BEST_PRECISION, PRECISIONS, RUNTIMES, PipelineConfig
from playmill.dataset import open_dataset
from playmill.frame_processor import FrameProcessor
from playmill.frames import decode_chunk
from playmill.plan import cut
from playmill.processor import hardware_name
from playmill.video_index import index_video

PROJECT = Path(__file__).resolve().parent.parent
BENCH = PROJECT.parent / "shared" / "recordings" / "bench" / "doom-1280x720-5min"
EXAMPLE = PROJECT / "examples" / "recordings" / "doom-640x480"
LOOP_FRAMES = 64
MODEL_FRAMES = 320
FIDELITY_FRAMES = 48
DECODE, MODEL = "decoding alone, without scaling", "model alone, batches in memory"
SKETCH, LOOP = "first sketch's loop", "plain batched loop"
PIPELINE, MILL = "pipeline.run()", "mill, {} worker(s)"
SHORT = ", the short clip"


def trimmed(recording: Path, folder: Path, seconds: float) -> Path:
    """Copy the first seconds of a recording, packet by packet; return the copy."""
    copy = folder / f"{seconds:g}s" / recording.name
    copy.mkdir(parents=True)
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


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one path."""

    frames: int
    seconds: float
    cpu_seconds: float
    """Of this process and of the children that it waited for."""

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a frame."""
        return 1e3 * self.cpu_seconds / self.frames


@contextmanager
def stopwatch() -> Iterator[Callable[[int], Measured]]:
    """Yield a function that tells what was used since; to be called with the number of frames."""
    started, before = time.perf_counter(), sum(os.times()[:4])

    def stop(frames: int) -> Measured:
        seconds = time.perf_counter() - started
        return Measured(frames, seconds, sum(os.times()[:4]) - before)

    yield stop


def decode_alone(recording: Path, config: PipelineConfig) -> Measured:
    """Decode in this process; neither convert nor scale."""
    video = recording / "video.mp4"
    chunks = cut(index_video(video), target_frames=config.chunk_frames)
    with stopwatch() as stop:
        return stop(sum(1 for chunk in chunks for _ in decode_chunk(video, chunk, sizes=())))


def make_processor(config: PipelineConfig) -> FrameProcessor:
    """Load the backbone as `pipeline.run` does."""
    encoder = encoders.load(config.encoder, device=config.device_class)
    return FrameProcessor.of_run(encoder, config)


def model_alone(config: PipelineConfig) -> Measured:
    """Run the backbone on pictures that are there already, as many passes at a time as a run."""
    processor = make_processor(config)
    shape = (config.batch_size, *processor.model_input_size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    num_batches = MODEL_FRAMES // config.batch_size
    with ThreadPoolExecutor(config.num_passes) as pool:
        list(pool.map(processor.extract, [batch] * config.num_passes))
        with stopwatch() as stop:
            list(pool.map(processor.extract, [batch] * num_batches))
            return stop(num_batches * config.batch_size)


def timm_model() -> torch.nn.Module:
    """Return the default backbone as timm has it; its speed does not depend on its weights."""
    return timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()


def first_sketch(recording: Path, config: PipelineConfig) -> Measured:
    """One frame at a time through PIL and timm's model, as the project's first sketch did it."""
    torch.set_num_threads(config.num_threads)
    spec, module = encoders.describe(config.encoder), timm_model()
    transform = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize(spec.input_size),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )
    with rgb_frames(recording) as frames, torch.no_grad(), stopwatch() as stop:
        for rgb in islice(frames, LOOP_FRAMES):
            module(transform(rgb).unsqueeze(0))
        return stop(LOOP_FRAMES)


def batched_loop(recording: Path, config: PipelineConfig) -> Measured:
    """What most people write: torchvision on tensors, timm's model on a batch at a time."""
    torch.set_num_threads(config.num_threads)
    spec, module = encoders.describe(config.encoder), timm_model()
    resize = transforms.Resize(spec.input_size)
    normalize = transforms.Normalize(spec.mean, spec.std)
    with rgb_frames(recording) as frames, torch.no_grad(), stopwatch() as stop:
        for _ in range(LOOP_FRAMES // config.batch_size):
            pictures = [
                resize(torch.from_numpy(rgb).permute(2, 0, 1))
                for rgb in islice(frames, config.batch_size)
            ]
            module(normalize(torch.stack(pictures) / 255))
        return stop(LOOP_FRAMES // config.batch_size * config.batch_size)


@contextmanager
def rgb_frames(recording: Path) -> Iterator[Iterator[np.ndarray]]:
    """Yield the pictures of a video one after the other, (H, W, 3) uint8, as PyAV gives them."""
    with av.open(str(recording / "video.mp4")) as container:
        yield (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


def pipeline_run(recording: Path, config: PipelineConfig, folder: Path) -> Measured:
    """The serial pipeline, from the recording to the published file, its start-up included."""
    with stopwatch() as stop:
        path = pipeline.run(recording, folder, config)
        with open_dataset(path) as dataset:
            return stop(len(dataset))


def mill_run(recording: Path, config: PipelineConfig, folder: Path, *, workers: int) -> Measured:
    """The mill, from the command to its end: start-up of Redis and workers included."""
    options = ["--chunk-frames", config.chunk_frames, "--batch-size", config.batch_size]
    options += ["--runtime", config.chosen_runtime, "--precision", config.precision]
    command = ["run", recording, "--datasets", folder, "--json", "--workers", workers, *options]
    with stopwatch() as stop:
        result = subprocess.run(
            [sys.executable, "-m", "playmill.cli", *map(str, command)],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        return stop(int(json.loads(result.stdout)[0]["frames"]))


def fidelity(recording: Path, config: PipelineConfig) -> tuple[float, float, int]:
    """Return mean and least cosine to the reference path, and of how many frames."""
    processor = make_processor(config)
    spec, module = processor.spec, processor.feature_extractor
    assert spec is not None
    assert module is not None
    mean, std = (torch.tensor(value)[:, None, None] for value in (spec.mean, spec.std))
    resize = transforms.Resize(spec.input_size)
    video = recording / "video.mp4"
    index = index_video(video)
    (whole,) = cut(index, target_frames=len(index))
    step = max(1, len(index) // FIDELITY_FRAMES)
    cosines = []
    for frame in islice(decode_chunk(video, whole, sizes=(None, spec.input_size)), 0, None, step):
        rgb, scaled = frame.images
        small = resize(torch.from_numpy(rgb).permute(2, 0, 1).contiguous())
        with torch.no_grad():
            reference = module(((small / 255 - mean) / std)[None])
        found = torch.from_numpy(processor.extract(processor.resize([scaled]))).float()
        cosines.append(float(torch.nn.functional.cosine_similarity(found, reference)))
    return sum(cosines) / len(cosines), min(cosines), len(cosines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = BENCH if BENCH.is_dir() else EXAMPLE
    parser.add_argument("recording", nargs="?", type=Path, default=default)
    parser.add_argument("--seconds", type=float, default=60.0, help="how much of it")
    parser.add_argument("--short-seconds", type=float, default=5.0, help="to tell start-up apart")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--batch-size", type=int, default=PipelineConfig().batch_size)
    parser.add_argument("--runtime", choices=RUNTIMES, help="what computes the backbone")
    parser.add_argument("--precision", choices=PRECISIONS, default=BEST_PRECISION)
    arguments = parser.parse_args()
    config = PipelineConfig(
        batch_size=arguments.batch_size,
        runtime=arguments.runtime,
        precision=arguments.precision,
    )
    print(f"playmill {__version__}, {hardware_name()}, {os.cpu_count()} cores,")
    print(f"torch {torch.__version__}, {arguments.recording.name}, {arguments.seconds:.0f} s,")
    print(f"{config.chosen_runtime}, {config.precision}, batch {config.batch_size},", end=" ")
    print(f"{config.num_passes} passes\n")
    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch:
        folder = Path(scratch)
        recording = trimmed(arguments.recording, folder, arguments.seconds)
        short = trimmed(arguments.recording, folder, arguments.short_seconds)
        mean, least, count = fidelity(recording, config)
        print(f"cosine to the reference path: mean {mean:.5f}, min {least:.5f}, {count} frames\n")
        results = measure(recording, short, config, folder, arguments)
    print_table(results)


def measure(
    recording: Path,
    short: Path,
    config: PipelineConfig,
    folder: Path,
    arguments: argparse.Namespace,
) -> dict[str, list[Measured]]:
    """Run every path once a round; return the runs of each path, in the order of the table."""
    results: dict[str, list[Measured]] = {}

    def note(name: str, run: Measured) -> None:
        results.setdefault(name, []).append(run)
        print(f"  {name}: {run.rate:.1f} frames/s", file=sys.stderr)

    for number in range(arguments.rounds):
        place = folder / f"round{number}"
        note(DECODE, decode_alone(recording, config))
        note(MODEL, model_alone(config))
        note(SKETCH, first_sketch(recording, config))
        note(LOOP, batched_loop(recording, config))
        for clip, suffix in ((recording, ""), (short, SHORT)):
            own = place / clip.parent.name
            note(PIPELINE + suffix, pipeline_run(clip, config, own / "serial"))
            for workers in arguments.workers:
                run = mill_run(clip, config, own / f"mill{workers}", workers=workers)
                note(MILL.format(workers) + suffix, run)
    return results


def print_table(results: dict[str, list[Measured]]) -> None:
    """Print medians, and ratios taken within each round."""

    def ratios(other: Callable[..., float]) -> str:
        runs = results[PIPELINE]
        found = [run.rate / other(number) for number, run in enumerate(runs)]
        return f"{median(found):.2f} ({', '.join(f'{ratio:.2f}' for ratio in found)})"

    def ceiling(number: int) -> float:
        return 1 / (1 / results[DECODE][number].rate + 1 / results[MODEL][number].rate)

    print("| path | frames | frames/s | CPU ms a frame |")
    print("|---|---|---|---|")
    for name, runs in results.items():
        rate, cpu_ms = median(run.rate for run in runs), median(run.cpu_ms for run in runs)
        print(f"| {name} | {runs[0].frames} | {rate:.1f} | {cpu_ms:.1f} |")
    cpu_ms = {name: median(run.cpu_ms for run in runs) for name, runs in results.items()}
    print(f"\npipeline.run() / ceiling: {ratios(ceiling)}")
    print(f"the same in CPU time: {(cpu_ms[DECODE] + cpu_ms[MODEL]) / cpu_ms[PIPELINE]:.2f}")
    for loop in (SKETCH, LOOP):
        found = ratios(lambda number, name=loop: results[name][number].rate)
        print(f"pipeline.run() / {loop}: {found}")
        print(f"the same in CPU time: {cpu_ms[loop] / cpu_ms[PIPELINE]:.2f}")
    for name in [name for name in results if name.startswith("mill") and name + SHORT in results]:
        print(f"{name} / pipeline.run(), start-up aside: {_aside(results, name):.2f}")


def _aside(results: dict[str, list[Measured]], name: str) -> float:
    """Return how fast a path is against the pipeline, in what two clips' lengths differ by."""

    def rate(path: str) -> float:
        runs = zip(results[path], results[path + SHORT], strict=True)
        return median(
            (long.frames - short.frames) / (long.seconds - short.seconds) for long, short in runs
        )

    return rate(name) / rate(PIPELINE)


if __name__ == "__main__":
    main()
