"""Which operators the backbone spends its time in: the slowest stage of a run, looked into.

python -m benchmarks.profiling [--batches 20]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.throughput import make_processor
from playmill.config import PipelineConfig

TOP = 12


def measure(num_batches: int) -> None:
    """Print a table of operators, by their own time, in one pass of one thread after the other."""
    config = PipelineConfig()
    processor = make_processor(config)
    shape = (config.batch_size, *processor.model_input_size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for _ in range(3):
        processor.extract(batch)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(num_batches):
            processor.extract(batch)
    events = [event for event in profiler.key_averages() if event.self_cpu_time_total]
    events.sort(key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    frames = num_batches * config.batch_size
    print(f"torch {torch.__version__}, batch {config.batch_size}, one thread, {frames} frames\n")
    print("| operator | calls a batch | ms a frame | share |")
    print("|---|---|---|---|")
    for event in events[:TOP]:
        share, ms = event.self_cpu_time_total / total, event.self_cpu_time_total / 1e3 / frames
        print(f"| {event.key} | {event.count / num_batches:g} | {ms:.2f} | {share:.1%} |")
    print(f"| all | | {total / 1e3 / frames:.2f} | |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=20)
    measure(parser.parse_args().batches)


if __name__ == "__main__":
    main()
