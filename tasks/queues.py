"""Queues: which step waits in which, and which of them a worker serves, urgent ones first.

    cpu                          ingest, consolidate
    extract-cpu, extract-cuda    extract, by the kind of device that the job wants

Each has a second one beside it, `.urgent`. A worker looks there first, so that a backlog of any
length stands in nobody's way.
"""

from __future__ import annotations

from playmill.config import DEVICE_CLASSES

CPU = "cpu"
URGENT = ".urgent"
PLAIN = (CPU, *(f"extract-{device}" for device in DEVICE_CLASSES))
QUEUES = tuple(name for plain in PLAIN for name in (plain + URGENT, plain))


def queue_of(verb: str, *, device: str, urgent: bool) -> str:
    """Return where the steps of a verb wait.

    Args:
        device: what the job's features are computed on, "cpu" or "cuda".
    """
    plain = f"extract-{device}" if verb == "extract" else CPU
    return plain + URGENT if urgent else plain


def is_urgent(queue: str) -> bool:
    """Say whether a queue is looked at before its sibling."""
    return queue.endswith(URGENT)


def served_by(kind: str, *, device: str) -> tuple[str, str]:
    """Return the queues of a worker, in the order in which it looks at them.

    Args:
        kind: "gpu" (extracts) or "cpu" (ingests, consolidates).
        device: what an extracting worker computes on, "cpu" or "cuda".
    """
    plain = f"extract-{device}" if kind == "gpu" else CPU
    return plain + URGENT, plain
