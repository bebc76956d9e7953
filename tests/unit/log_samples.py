"""Reading logs in tests."""

from __future__ import annotations

from pathlib import Path

from playmill.inputs import GameplaySessionReader, InputEvents, LogFiles


def read_native(log: Path) -> InputEvents:
    """Read a log of gameplay-session/1."""
    return GameplaySessionReader().read(LogFiles(video=log, log=log))
