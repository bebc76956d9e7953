"""Logs of OWAMcap, written by the schema of its message types."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer

BASE_NS = 1_750_000_000_000_000_000
"""Log time 0 of the samples."""
Message = tuple[str, float, "dict[str, Any] | bytes"]
"""Topic, log time in milliseconds after BASE_NS, content."""


def mcap_bytes(
    messages: Iterable[Message],
    *,
    profile: str = "owa",
    compression: CompressionType = CompressionType.ZSTD,
    chunk_size: int = 1 << 20,
) -> bytes:
    """Return the file that the recorder writes for `messages`."""
    stream = io.BytesIO()
    writer = Writer(stream, chunk_size=chunk_size, compression=compression)
    writer.start(profile=profile, library="sample")
    channels: dict[str, int] = {}
    for topic, at_ms, content in messages:
        if topic not in channels:
            schema = writer.register_schema(topic, "jsonschema", b"{}")
            channels[topic] = writer.register_channel(topic, "json", schema)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        time_ns = BASE_NS + round(at_ms * 1_000_000)
        writer.add_message(channels[topic], time_ns, data, time_ns)
    writer.finish()
    return stream.getvalue()


def write_mcap(log: Path, messages: Iterable[Message], **options: Any) -> Path:
    """Write `messages` as the recorder does, see `mcap_bytes`; return `log`."""
    log.write_bytes(mcap_bytes(messages, **options))
    return log


def key(at_ms: float, vk: int, kind: str = "press", **more: Any) -> Message:
    """Return a message about a key."""
    return "keyboard", at_ms, {"event_type": kind, "vk": vk, **more}


def at(at_ms: float, x: float, y: float) -> Message:
    """Return a message about where the mouse is."""
    return "mouse", at_ms, {"event_type": "move", "x": x, "y": y}


def click(at_ms: float, button: str, *, pressed: bool) -> Message:
    """Return a message about a mouse button."""
    content = {"event_type": "click", "x": 1, "y": 2, "button": button, "pressed": pressed}
    return "mouse", at_ms, content


def raw_move(at_ms: float, x: int, y: int, **more: Any) -> Message:
    """Return what the mouse itself says."""
    return "mouse/raw", at_ms, {"last_x": x, "last_y": y, "us_flags": 0, "button_flags": 0} | more


def held(at_ms: float, *vks: int) -> Message:
    """Return a snapshot of held keys."""
    return "keyboard/state", at_ms, {"buttons": list(vks)}


def screen(pts_ms: float, stamp_ms: float, *, generation: int = 3) -> Message:
    """Return the stamp of a frame in one of the three generations of messages."""
    pts_ns, utc_ns = round(pts_ms * 1_000_000), BASE_NS + round(stamp_ms * 1_000_000)
    content: dict[str, Any] = {"path": "a.mkv", "pts": pts_ns, "utc_ns": utc_ns}
    if generation == 2:
        content |= {"original_shape": [906, 578], "shape": [906, 578]}
    elif generation == 3:
        media = {"uri": "a.mkv", "pts_ns": pts_ns}
        content = {"utc_ns": utc_ns, "source_shape": [906, 578], "media_ref": media}
    return "screen", stamp_ms, content
