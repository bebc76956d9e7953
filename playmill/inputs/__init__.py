"""Input logs: one reader per log format, all of which return `InputEvents`.

A reader has one method; adding a format means adding a module here and a line to READERS.
"""

from __future__ import annotations

from types import MappingProxyType

from playmill.inputs.events import DEVICES, KINDS, InputEvents, InputReader, RejectedLines
from playmill.inputs.gameplay_session import GameplaySessionReader
from playmill.inputs.w3c import w3c_code

__all__ = [
    "DEVICES",
    "KINDS",
    "READERS",
    "GameplaySessionReader",
    "InputEvents",
    "InputReader",
    "RejectedLines",
    "reader_for",
    "w3c_code",
]

READERS: MappingProxyType[str, InputReader] = MappingProxyType(
    {reader.name: reader for reader in (GameplaySessionReader(),)}
)
"""Every reader by its name."""


def reader_for(name: str | None) -> InputReader:
    """Return the reader of the log format `name`; raise ValueError for an unknown one."""
    if name is None or name not in READERS:
        raise ValueError(f"no reader is named {name!r}; there are {', '.join(READERS)}")
    return READERS[name]
