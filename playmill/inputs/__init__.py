"""Input logs: one reader per log format, all of which return `InputEvents`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from playmill.errors import UsageError
from playmill.inputs.ducktrack import DuckTrackReader
from playmill.inputs.events import DEVICES, KINDS, MASKS, InputEvents, Mask, RejectedLines
from playmill.inputs.game_recorder import GameRecorderReader
from playmill.inputs.gameplay_session import GameplaySessionReader
from playmill.inputs.generic import GenericReader
from playmill.inputs.owa_lines import OwaLinesReader
from playmill.inputs.owamcap import OWAMcapReader
from playmill.inputs.owl import OWLControlReader
from playmill.inputs.p2p import P2pReader
from playmill.inputs.reader import Anchor, Clock, InputReader, LogFiles, ReadOptions, VideoTimes
from playmill.inputs.vpt import VptReader
from playmill.inputs.w3c import w3c_code
from playmill.phrases import suggestion

__all__ = [
    "DEVICES",
    "KINDS",
    "MASKS",
    "READERS",
    "Anchor",
    "Clock",
    "GameplaySessionReader",
    "InputEvents",
    "InputReader",
    "LogFiles",
    "Mask",
    "ReadOptions",
    "RejectedLines",
    "VideoTimes",
    "reader_for",
    "readers",
    "w3c_code",
]

PLUGIN_GROUP = "playmill.readers"
"""Entry point group in which an installed package names readers of its own."""

READERS: MappingProxyType[str, InputReader] = MappingProxyType(
    {
        reader.name: reader
        for reader in (
            GameplaySessionReader(),
            GameRecorderReader(),
            P2pReader(),
            VptReader(),
            OWAMcapReader(),
            OwaLinesReader(),
            OWLControlReader(),
            DuckTrackReader(),
            GenericReader(),
        )
    }
)
"""Playmill's own readers by name, in the order in which they look at a recording."""


@cache
def readers() -> Mapping[str, InputReader]:
    """Return every reader by name: Playmill's own, then those of installed packages.

    Raises:
        UsageError: a package's reader cannot be loaded, or has the name of another.
    """
    found = dict(READERS)
    for entry in sorted(entry_points(group=PLUGIN_GROUP), key=lambda entry: entry.name):
        try:
            reader: InputReader = entry.load()()
            name = reader.name
        except Exception as error:  # somebody else's code
            raise UsageError(
                f"the reader {entry.name} ({entry.value}) cannot be loaded: {error!r};"
                " mend or uninstall its package"
            ) from error
        if name in found:
            raise UsageError(
                f"the reader {entry.value} has the name {name!r}, which another one has;"
                " uninstall one of them"
            )
        found[name] = reader
    return MappingProxyType(found)


def reader_for(name: str | None) -> InputReader:
    """Return the reader of the log format `name`; raise UsageError for an unknown one."""
    known = readers()
    if name is None or name not in known:
        raise UsageError(
            f"no reader is named {name!r}{suggestion(name or '', known)};"
            f" there are {', '.join(known)}"
        )
    return known[name]
