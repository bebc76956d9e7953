"""Frames per second on a GPU, against the two ceilings: `make bench-gpu`.

    python -m benchmarks.gpu [RECORDING] [--precision bf16] [--batch-size 64]

Decoding alone (scaled and put into batches, with the threads of a run), the model alone (pictures
that are there already; each pass is begun before the last one's features are taken), extraction as
`pipeline.run()` does it, the whole of `pipeline.run()` with its start-up, and extraction in two
processes that share the GPU, as in the mill. First with frames decoded on the CPU, then on NVDEC,
and at the end which of them to choose for such recordings on this machine.

Without a GPU it says so, and measures what a host can be asked without one: `benchmarks.host`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import host
from benchmarks.table import Row, print_table
from playmill import encoders, pipeline
from playmill.batches import batched
from playmill.config import DECODERS, PipelineConfig
from playmill.dataset import open_dataset
from playmill.decoding.process import DecodeProcess
from playmill.decoding.threads import decoder_threads
from playmill.errors import DecoderUnavailable
from playmill.extraction import Extractor
from playmill.frame_processor import FrameProcessor
from playmill.manifest import Manifest, make_manifest
from playmill.plan import cut
from playmill.recording import Recording, read_recording

MODEL_BATCHES = 50
PROCESSES = 2
"""That share the GPU, as in the mill."""
WORTH = 1.1
"""How much faster NVDEC has to be to be advised: it says less of damage."""
CHUNK_FRAMES = 128
"""Short chunks: each of the processes needs several, also of a short recording."""
_START_S = 300.0
_SPAWN = multiprocessing.get_context("spawn")


def measure(
    path: Path, config: PipelineConfig, *, model_batches: int = MODEL_BATCHES
) -> tuple[list[Row], float]:
    """Measure both ceilings and the pipeline on one recording.

    Returns:
        The table's rows; frames a second of the processes that share the GPU.
    Raises:
        DecoderUnavailable: `config.decoder` decodes nothing here, or nothing of this recording.
    """
    threads = decoder_threads(config.device_class, processes=1)
    with (
        prepared(path, config, threads) as (recording, manifest, extractor),
        tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch,
    ):
        model = model_alone(extractor.processor, model_batches)
        decode = decode_alone(recording.source, extractor.decoder, extractor.processor)
        folders = [Path(scratch, chunk.id) for chunk in manifest.chunks]
        started = time.perf_counter()
        commits = list(
            extractor.extract_all(recording.source, manifest.chunks, manifest, folders=folders)
        )
        extract = sum(len(one.pts) for one in commits) / (time.perf_counter() - started)
        started = time.perf_counter()
        with open_dataset(pipeline.run(path, Path(scratch, "datasets"), config)) as dataset:
            whole = len(dataset) / (time.perf_counter() - started)
    together = shared(path, config)
    ceiling = min(decode, model)
    by = "on NVDEC" if config.decoder == "nvdec" else f"with {threads} threads"
    what = f"{config.device_class}, {path.name}, decoded {by}"
    pair = f"extraction, {PROCESSES} processes"
    return [
        Row(what, "decoding alone", f"{decode:.0f} frames/s", decode / ceiling),
        Row(what, "model alone", f"{model:.0f} frames/s", model / ceiling),
        Row(what, "extraction", f"{extract:.0f} frames/s", extract / ceiling, ">= 0.9"),
        Row(what, "pipeline.run(), start-up included", f"{whole:.0f} frames/s", whole / ceiling),
        Row(what, pair, f"{together:.0f} frames/s", together / ceiling),
    ], together


@contextmanager
def prepared(
    path: Path, config: PipelineConfig, threads: int
) -> Iterator[tuple[Recording, Manifest, Extractor]]:
    """Read and plan a recording, and load what extracts it."""
    with DecodeProcess(num_threads=threads, kind=config.decoder) as decoder:
        decoder.check()
        encoder = encoders.load(config.encoder, device=config.device_class)
        processor = FrameProcessor.of_run(encoder, config)
        recording = read_recording(path, identity="bench")
        manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder.spec)
        yield recording, manifest, Extractor(processor, decoder, config.num_passes)


def shared(path: Path, config: PipelineConfig) -> float:
    """Return frames a second of all processes that share the GPU, each with a share of chunks."""
    start = _SPAWN.Barrier(PROCESSES)
    pipes = [_SPAWN.Pipe(duplex=False) for _ in range(PROCESSES)]
    processes = [
        _SPAWN.Process(target=extract_share, args=(sender, start, path, config, index))
        for index, (_, sender) in enumerate(pipes)
    ]
    for process, (_, sender) in zip(processes, pipes, strict=True):
        process.start()
        sender.close()  # so that the end of a process that dies is seen
    all_done = [receiver.recv() for receiver, _ in pipes]
    for process in processes:
        process.join()
    return host.rate(all_done)[0]


def extract_share(
    pipe: Connection, start: Any, path: Path, config: PipelineConfig, index: int
) -> None:
    """Extract one of the shares, chunk by chunk; send when each was done, and its frames."""
    threads = decoder_threads(config.device_class, processes=PROCESSES)
    with (
        prepared(path, config, threads) as (recording, manifest, extractor),
        tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch,
    ):
        model_alone(extractor.processor, 1)  # what only the first pass does
        start.wait(_START_S)
        done: host.Done = []
        for chunk in manifest.chunks[index::PROCESSES]:
            folder = Path(scratch, chunk.id)
            commit = extractor.extract(recording.source, chunk, manifest, folder=folder)
            done.append((time.monotonic(), len(commit.pts)))
        pipe.send(done)


def decode_alone(source: Path, decoder: DecodeProcess, processor: FrameProcessor) -> float:
    """Return frames a second of decoding into batches, without an edge of a chunk.

    Raises:
        DecoderUnavailable: another decoder than it is meant to be decodes this recording.
    """
    index = decoder.index(source)
    (whole,) = cut(index, target_frames=len(index))
    sizes = [processor.model_input_size]
    started = time.perf_counter()
    frames = 0
    for batch in batched(decoder.frames(source, whole, sizes=sizes), processor, sizes):
        frames += len(batch.pts)
        if batch.decoder != decoder.kind:
            found = f"of {source.name} ({index.codec}) it decodes nothing"
            raise DecoderUnavailable(decoder.kind, found, "Measure another recording.")
    return frames / (time.perf_counter() - started)


def model_alone(processor: FrameProcessor, num_batches: int) -> float:
    """Return frames a second of the backbone on pictures that lie in memory."""
    shape = (processor.batch_size, *processor.model_input_size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    last = processor.begin(batch)
    last.features()
    started = time.perf_counter()
    last = processor.begin(batch)
    for _ in range(num_batches - 1):
        following = processor.begin(batch)
        last.features()
        last = following
    last.features()
    return num_batches * processor.batch_size / (time.perf_counter() - started)


def choice(rates: Mapping[str, float]) -> str:
    """Say which decoder to choose.

    Args:
        rates: frames a second by decoder, of those that could be measured.
    """
    if len(rates) < len(DECODERS):
        return "--decoder cpu: there is nothing to compare it with."
    times = rates["nvdec"] / rates["cpu"]
    found = f"with NVDEC extraction is {times:.2f} times as fast as with the CPU's decoder"
    if times < WORTH:
        return f"--decoder cpu: {found}, and says less of damage."
    return f"--decoder nvdec, for sound recordings like this one: {found}."


def main() -> None:
    """Print the tables; without a GPU, that there is none, and the host's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", nargs="?", type=Path, default=host.RECORDING)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU that torch can use here, so neither the model nor NVDEC, which is")
        print("a part of it, is measured. As the host would see a GPU:\n")
        print_table(host.measure(arguments.recording))
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    config = PipelineConfig(
        device_class="cuda",
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        chunk_frames=CHUNK_FRAMES,
    )
    rates = {}
    for decoder in DECODERS:
        print()
        try:
            rows, rates[decoder] = measure(
                arguments.recording,
                replace(config, decoder=decoder),  # type: ignore[arg-type]
            )
        except DecoderUnavailable as error:
            print(f"Not measured: {error}")
        else:
            print_table(rows)
    print(f"\nChoose {choice(rates)}")


if __name__ == "__main__":
    main()
