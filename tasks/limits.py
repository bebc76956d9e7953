"""Limits: after how long a task is taken for hung, and killed.

Generous: they are there for a library that loops, and for a file system that answers no more. A
slow machine, or a slow disk, is not a hang.
"""

from __future__ import annotations

from playmill.jobs import JobFacts, Step

BASE_S = 900.0
"""Every task may take this long, and then some:"""
EXTRACT_FRAME_S = {"cuda": 1.0, "cpu": 10.0}
"""for each frame of its chunk, by device class: a heavy encoder is slow without a GPU;"""
CONSOLIDATE_FRAME_S = 0.1
"""for each frame of the recording,"""
SOURCE_BYTE_S = 1e-6
"""for each byte of the recording, which is read once or twice."""
LONGEST_S = 8 * 3600.0
"""Well below the time after which Redis gives a message to another worker."""


def time_limit_s(facts: JobFacts, step: Step) -> float:
    """Return how long one try of a step may take."""
    frames = facts.plan.chunk_frames if facts.plan is not None else ()
    if step.chunk_index is not None:
        more_s = EXTRACT_FRAME_S[facts.needs.device_class] * frames[step.chunk_index]
    else:
        more_s = SOURCE_BYTE_S * facts.needs.source_bytes + CONSOLIDATE_FRAME_S * sum(frames)
    return min(BASE_S + more_s, LONGEST_S)
