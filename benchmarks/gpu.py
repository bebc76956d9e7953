"""Frames per second on a GPU, against the two ceilings: `make bench-gpu`.

    python -m benchmarks.gpu [RECORDING] [--precision bf16] [--batch-size 64]

Decoding alone (scaled and put into batches, with the threads of a run), the model alone (pictures
that are there already; each pass is begun before the last one's features are taken), extraction as
`pipeline.run()` does it, and the whole of `pipeline.run()` with its start-up. Without a GPU it says
so, and measures what a host can be asked without one: `benchmarks.host`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import host
from benchmarks.table import Row, print_table
from playmill import encoders, pipeline
from playmill.batches import batched
from playmill.config import PipelineConfig
from playmill.dataset import open_dataset
from playmill.decoding.process import DecodeProcess
from playmill.decoding.threads import decoder_threads
from playmill.extraction import Extractor
from playmill.frame_processor import FrameProcessor
from playmill.manifest import make_manifest
from playmill.plan import cut
from playmill.recording import read_recording

MODEL_BATCHES = 50


def measure(path: Path, config: PipelineConfig, *, model_batches: int = MODEL_BATCHES) -> list[Row]:
    """Measure both ceilings and the pipeline on one recording."""
    encoder = encoders.load(config.encoder, device=config.device_class)
    processor = FrameProcessor.of_run(encoder, config)
    recording = read_recording(path, identity="bench")
    threads = decoder_threads(config.device_class, processes=1)
    with (
        DecodeProcess(num_threads=threads) as decoder,
        tempfile.TemporaryDirectory(prefix="playmill-bench-") as scratch,
    ):
        manifest = make_manifest(recording, config, index=decoder.index, encoder=encoder.spec)
        model = model_alone(processor, model_batches)
        decode = decode_alone(recording.source, decoder, processor)
        folders = [Path(scratch, chunk.id) for chunk in manifest.chunks]
        extractor = Extractor(processor, decoder, config.num_passes)
        started = time.perf_counter()
        commits = list(
            extractor.extract_all(recording.source, manifest.chunks, manifest, folders=folders)
        )
        extract = sum(len(one.pts) for one in commits) / (time.perf_counter() - started)
        started = time.perf_counter()
        with open_dataset(pipeline.run(path, Path(scratch, "datasets"), config)) as dataset:
            whole = len(dataset) / (time.perf_counter() - started)
    ceiling = min(decode, model)
    what = f"{config.device_class}, {path.name}, {threads} decoder threads"
    return [
        Row(what, "decoding alone", f"{decode:.0f} frames/s", decode / ceiling),
        Row(what, "model alone", f"{model:.0f} frames/s", model / ceiling),
        Row(what, "extraction", f"{extract:.0f} frames/s", extract / ceiling, ">= 0.9"),
        Row(what, "pipeline.run(), start-up included", f"{whole:.0f} frames/s", whole / ceiling),
    ]


def decode_alone(source: Path, decoder: DecodeProcess, processor: FrameProcessor) -> float:
    """Return frames a second of decoding into batches, without an edge of a chunk."""
    index = decoder.index(source)
    (whole,) = cut(index, target_frames=len(index))
    sizes = [processor.model_input_size]
    started = time.perf_counter()
    batches = batched(decoder.frames(source, whole, sizes=sizes), processor, sizes)
    frames = sum(len(batch.pts) for batch in batches)
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


def main() -> None:
    """Print the table; without a GPU, that there is none, and the host's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", nargs="?", type=Path, default=host.RECORDING)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU that torch can use here. As the host would see one:\n")
        print_table(host.measure(arguments.recording))
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    config = PipelineConfig(
        device_class="cuda", precision=arguments.precision, batch_size=arguments.batch_size
    )
    print_table(measure(arguments.recording, config))


if __name__ == "__main__":
    main()
