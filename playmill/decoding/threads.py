"""How many threads a decoder gets of a machine. Frames have the same bits for any number."""

from __future__ import annotations

import os

BESIDE_BACKBONE = 2
"""On a CPU, whose cores the backbone has; decoding takes what it leaves."""
MOST = 8
"""From here on the thread that scales the pictures is what bounds one decoder."""


def decoder_threads(device_class: str, *, processes: int) -> int:
    """Return the threads of each decoder where `processes` decode at once on this machine.

    A GPU leaves the cores to decoding: they are shared out.

    Args:
        device_class: "cpu" or "cuda": what the backbone runs on.
    """
    if device_class == "cpu":
        return BESIDE_BACKBONE
    share = len(os.sched_getaffinity(0)) // max(1, processes)
    return min(MOST, max(BESIDE_BACKBONE, share))
