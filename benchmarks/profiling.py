"""Which layers the backbone spends its time in: the slowest stage of a run, looked into.

python -m benchmarks.profiling [--batches 20]
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from playmill import encoders
from playmill.backbones.openvino import load_openvino
from playmill.config import PipelineConfig


def measure(num_batches: int) -> None:
    """Print a table of the kinds of layers, by their own time, in passes of one thread."""
    config = PipelineConfig()
    encoder = encoders.load(config.encoder, device="cpu")
    openvino = load_openvino()
    shape = (config.batch_size, 3, *encoder.spec.input_size)
    settings = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True}
    model = encoder.module.openvino_model(shape)
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for _ in range(3):
        request.infer([batch])
    ms, layers = Counter[str](), Counter[str]()
    for _ in range(num_batches):
        request.infer([batch])
        for layer in request.get_profiling_info():
            if layer.real_time.total_seconds():
                kind = f"{layer.node_type}, {layer.exec_type}"
                ms[kind] += 1e3 * layer.real_time.total_seconds()
                layers[kind] += 1
    frames = num_batches * config.batch_size
    print(f"openvino {openvino.__version__}, batch {config.batch_size}, one thread\n")
    print("| layers | in a pass | ms a frame | share |")
    print("|---|---|---|---|")
    for kind, spent in ms.most_common():
        share = spent / ms.total()
        print(f"| {kind} | {layers[kind] / num_batches:g} | {spent / frames:.2f} | {share:.1%} |")
    print(f"| all | | {ms.total() / frames:.2f} | |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=20)
    measure(parser.parse_args().batches)


if __name__ == "__main__":
    main()
