"""What this machine's processor is, and what it can. Knows the system, no torch."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Of x86 processors that compute convolutions in bfloat16; the others convert back and forth."""


def hardware_name() -> str:
    """Return the processor's name as the system gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def has_bf16() -> bool:
    """Say whether the processor computes in bfloat16 faster than in float32."""
    return not _BF16_FLAGS.isdisjoint(_cpuinfo("flags").split())


def _cpuinfo(name: str) -> str:
    """Return what Linux says of the first core; "": nothing, or no Linux."""
    try:
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""
