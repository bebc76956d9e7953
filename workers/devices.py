"""The GPUs of this machine: which may be used, and by how many processes. Imports no torch."""

from __future__ import annotations

import os

from playmill.decoding.threads import decoder_threads
from tasks.settings import PREFIX, cuda_visible_devices

PER_GPU = 2
"""Processes on a GPU: one computes while the other puts a part on disk and begins the next chunk
(docs/decisions/gpu.md has the figures)."""


def visible_gpus() -> list[str]:
    """Return the numbers of the NVIDIA GPUs that may be used, without importing torch."""
    chosen = cuda_visible_devices()
    if chosen is not None:
        return [number for number in chosen.split(",") if number]
    return [str(number) for number in range(num_gpus())]


def num_gpus() -> int:
    """Return how many NVIDIA GPUs this machine, or this container, has."""
    try:
        return len(os.listdir("/proc/driver/nvidia/gpus"))
    except FileNotFoundError:
        return 0


def gpu_env(gpu: str, processes: int, *, threads: int | None = None) -> dict[str, str]:
    """Return the environment of one of the processes that extract on this machine's GPUs.

    Args:
        gpu: the one that it computes on.
        processes: how many there are on the machine; they share its cores.
        threads: of each decoder; None: a fair share.
    """
    threads = threads or decoder_threads("cuda", processes=processes)
    return {"CUDA_VISIBLE_DEVICES": gpu, f"{PREFIX}DECODER_THREADS": str(threads)}
