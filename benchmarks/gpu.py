"""Frames per second on a GPU, against the two ceilings: `make bench-gpu`.

    python -m benchmarks.gpu [RECORDING] [--precision bf16] [--batch-size 64]

Decoding alone (full-size RGB, in the decoding process), the model alone (pictures that are there
already, copies to the GPU included), and `pipeline.run()`. Without a GPU it says so, and measures
nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import throughput
from benchmarks.table import Row, print_table
from playmill import pipeline
from playmill.config import PipelineConfig
from playmill.dataset import open_dataset


def measure(recording: Path, config: PipelineConfig) -> list[Row]:
    """Measure both ceilings and the pipeline on one recording."""
    what = f"GPU, {recording.name}"
    frames, seconds = throughput.decode_alone(recording, config)
    decode = frames / seconds
    frames, seconds = throughput.model_alone(config)
    model = frames / seconds
    with tempfile.TemporaryDirectory(prefix="playmill-bench-") as folder:
        started = time.perf_counter()
        path = pipeline.run(recording, Path(folder), config)
        seconds = time.perf_counter() - started
        with open_dataset(path) as dataset:
            rate = len(dataset) / seconds
    ceiling = min(decode, model)
    return [
        Row(what, "decoding alone", f"{decode:.0f} frames/s", decode / ceiling),
        Row(what, "model alone", f"{model:.0f} frames/s", model / ceiling),
        Row(what, "pipeline.run(), start-up included", f"{rate:.0f} frames/s", rate / ceiling,
            ">= 0.9"),
    ]  # fmt: skip


def main() -> None:
    """Print the table, or that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = throughput.BENCH if throughput.BENCH.is_dir() else throughput.EXAMPLE
    parser.add_argument("recording", nargs="?", type=Path, default=default)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU that torch can use here: nothing was measured.")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    config = PipelineConfig(
        device_class="cuda", precision=arguments.precision, batch_size=arguments.batch_size
    )
    print_table(measure(arguments.recording, config))


if __name__ == "__main__":
    main()
