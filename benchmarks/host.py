"""Does the host keep a GPU busy? Measured without one.

    python -m benchmarks.host [RECORDING] [--seconds 12] [--chunk-frames 120] [--rounds 1] [--all]

To the host a GPU is something that takes a batch and gives its features back a while later, and
uses none of the host's cores meanwhile. Here that is a clock: all else is what a run does, the
decoding process, batches, features, parts. Three GPUs are tried, for which decoding is the
bottleneck, the backbone, and neither; each one with `pipeline.run()`'s way of extracting, which
decodes across the edges of chunks, and with the mill's, chunk by chunk, in two processes that share
the GPU, or in one.

The rate is that of frames between the end of the first pass and that of the last one; the ratio is
to the lesser of two ceilings: decoding and scaling alone, in as many processes and without any
edge, before and after; and the GPU alone on the plan's batches, padded ones included. Chunks are a
quarter as long as by default, so that there are many edges.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import PROJECT, Row, print_table
from playmill import encoders
from playmill.batches import batched
from playmill.config import PipelineConfig
from playmill.decoding.process import DecodeProcess
from playmill.extraction import Extractor
from playmill.frame_processor import FrameProcessor
from playmill.manifest import make_manifest
from playmill.passes import Pass
from playmill.plan import cut
from playmill.recording import read_recording

BENCH = PROJECT.parent / "shared" / "recordings" / "bench" / "doom-1280x720-5min"
EXAMPLE = PROJECT / "examples" / "recordings" / "doom-640x480"
RECORDING = BENCH if BENCH.is_dir() else EXAMPLE
BATCH = 64
CASES = {"decoding is the bottleneck": 2.0, "both are as fast": 1.0, "the GPU is": 0.5}
"""Rate of the GPU alone, by that of decoding alone."""
WAYS = {
    "as pipeline.run()": (1, True),
    "as the mill, 1 process": (1, False),
    "as the mill, 2 processes": (2, False),
}
"""Processes, and whether chunks are extracted in one go."""
DEFAULT_WAYS = ("as pipeline.run()", "as the mill, 2 processes")
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is to do."""

    folder: Path
    """The recording."""
    scratch: Path
    """Where parts go."""
    chunk_frames: int
    index: int
    of: int
    """It takes each `of`-th chunk, from `index` on."""
    pass_s: float | None
    """Seconds of a pass on the GPU; None: decode alone."""
    in_one_go: bool


Done: TypeAlias = list[tuple[float, int]]
"""When each batch of a process was done, by the machine's clock, and how many frames it had."""


def rate(all_done: list[Done]) -> tuple[float, float]:
    """Return frames a second, and frames a pass, while all processes were at work."""
    started_s = min(done[0][0] for done in all_done)
    ended_s = min(done[-1][0] for done in all_done)
    frames = [count for done in all_done for end, count in done if started_s < end <= ended_s]
    return sum(frames) / (ended_s - started_s), sum(frames) / len(frames)


class ClockPass(Pass):
    """A pass that ends at a time."""

    def __init__(self, ends_s: float, features: NDArray[np.float16]) -> None:
        self.batch_used = BATCH
        self._ends_s, self._features = ends_s, features

    def features(self) -> NDArray[np.float16]:
        """Wait for the features."""
        time.sleep(max(0.0, self._ends_s - time.monotonic()))
        return self._features


class ClockProcessor(FrameProcessor):
    """A GPU as its host sees it: one pass after the other, whichever process it is of."""

    def __init__(self, free_s: Any) -> None:
        spec = encoders.describe(PipelineConfig().encoder)
        super().__init__(spec.input_size, device="cpu", batch_size=BATCH, num_threads=1)
        self.spec, self._feature_dim = spec, spec.feature_dim
        self._free_s = free_s
        """Shared: when the GPU has done all that it was told so far."""
        self.pass_s = 0.0
        self.done: Done = []

    def begin(self, batch: NDArray[np.uint8]) -> Pass:
        """Queue a pass."""
        np.zeros((BATCH, *batch.shape[1:]), np.uint8)[: len(batch)] = batch  # as for a real one
        with self._free_s.get_lock():
            ends_s = max(time.monotonic(), self._free_s.value) + self.pass_s
            self._free_s.value = ends_s
        self.done.append((ends_s, len(batch)))
        return ClockPass(ends_s, np.ones((len(batch), self.feature_dim), np.float16))


def serve(pipe: Connection, free_s: Any, start: Any) -> None:
    """Do one job after the other; all processes begin at once."""
    processor = ClockProcessor(free_s)
    with DecodeProcess() as decoder:
        while (job := pipe.recv()) is not None:
            config = PipelineConfig(
                batch_size=BATCH, chunk_frames=job.chunk_frames, device_class="cuda"
            )
            recording = read_recording(job.folder, identity="bench")
            manifest = make_manifest(recording, config, index=decoder.index, encoder=processor.spec)
            chunks = manifest.chunks[job.index :: job.of]
            if job.pass_s is None:
                whole = sum(chunk.num_frames for chunk in manifest.chunks)
                chunks = cut(decoder.index(recording.source), target_frames=-(-whole // job.of))
                chunks = chunks[job.index : job.index + 1]
            processor.pass_s, processor.done = job.pass_s or 0.0, []
            extractor = Extractor(processor, decoder)
            folders = [job.scratch / chunk.id for chunk in chunks]
            start[job.of].wait()
            if job.pass_s is None:
                sizes = [processor.model_input_size]
                for chunk in chunks:
                    frames = decoder.frames(recording.source, chunk, sizes=sizes)
                    for batch in batched(frames, processor, sizes):
                        processor.done.append((time.monotonic(), len(batch.pts)))
            elif job.in_one_go:
                list(extractor.extract_all(recording.source, chunks, manifest, folders=folders))
            else:
                for chunk, folder in zip(chunks, folders, strict=True):
                    extractor.extract(recording.source, chunk, manifest, folder=folder)
            pipe.send(processor.done)


class Host:
    """Two processes that do what they are told, at once."""

    def __init__(self, pipes: list[Connection], folder: Path, chunk_frames: int) -> None:
        self._pipes, self._folder, self._chunk_frames = pipes, folder, chunk_frames

    def run(self, processes: int, pass_s: float | None, *, in_one_go: bool = False) -> list[Done]:
        """Extract, or without `pass_s` decode, in so many processes."""
        with tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch:
            pipes = self._pipes[:processes]
            for index, pipe in enumerate(pipes):
                place = (self._folder, Path(scratch), self._chunk_frames)
                pipe.send(Job(*place, index, processes, pass_s, in_one_go))
            return [pipe.recv() for pipe in pipes]


@contextmanager
def host(folder: Path, chunk_frames: int) -> Iterator[Host]:
    """Start the processes for a block."""
    with ExitStack() as stack:
        free_s = _SPAWN.Value("d", 0.0)
        start = {count: _SPAWN.Barrier(count) for count in (1, 2)}
        pipes = []
        for _ in range(2):
            ours, theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(target=serve, args=(theirs, free_s, start))
            process.start()
            stack.callback(process.join)
            stack.callback(ours.send, None)
            pipes.append(ours)
        yield Host(pipes, folder, chunk_frames)


def measure(
    path: Path,
    seconds: float = 12.0,
    chunk_frames: int = 120,
    rounds: int = 1,
    ways: Iterable[str] = DEFAULT_WAYS,
) -> list[Row]:
    """Measure these ways with every GPU."""
    from benchmarks.throughput import trimmed  # it imports much that the processes do not need

    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch:
        folder = trimmed(path, Path(scratch), seconds)
        with host(folder, chunk_frames) as machine:
            machine.run(2, None)  # what only the first run does
            for _ in range(rounds):
                for way in ways:
                    processes, in_one_go = WAYS[way]
                    before, _ = rate(machine.run(processes, None))
                    runs = {}
                    for case, share in CASES.items():
                        pass_s = BATCH / (before * share)
                        runs[case] = rate(machine.run(processes, pass_s, in_one_go=in_one_go))
                    after, _ = rate(machine.run(processes, None))
                    for case, (frames_a_s, frames_a_pass) in runs.items():
                        pass_s = BATCH / (before * CASES[case])
                        ceiling = min((before + after) / 2, frames_a_pass / pass_s)
                        found.setdefault((way, case), []).append((frames_a_s, frames_a_s / ceiling))
    group = f"GPU as seen from the host, {path.name}, chunks of {chunk_frames}"
    rows = []
    for (way, case), runs in found.items():
        frames_a_s, ratio = (median(run[number] for run in runs) for number in (0, 1))
        rows.append(Row(group, f"{way}: {case}", f"{frames_a_s:.0f} frames/s", ratio, ">= 0.90"))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", nargs="?", type=Path, default=RECORDING)
    parser.add_argument("--seconds", type=float, default=12.0, help="how much of it")
    parser.add_argument("--chunk-frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="one process of the mill, too")
    arguments = parser.parse_args()
    print_table(
        measure(
            arguments.recording,
            arguments.seconds,
            arguments.chunk_frames,
            arguments.rounds,
            WAYS if arguments.all else DEFAULT_WAYS,
        )
    )


if __name__ == "__main__":
    main()
