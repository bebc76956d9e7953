"""Writes annotation.proto files field by field, as the messages of open-p2p are numbered."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from playmill.inputs import LogFiles

PAD = {"south": 1, "north": 2, "left_bumper": 11}


def varint(value: int) -> bytes:
    """Encode an int32, int64 or uint64."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """Encode one field: a varint, a float32, a text or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def vector(x: int, y: int) -> bytes:
    """Encode a Vec2Int."""
    return field(1, x) + field(2, y)


def mouse(
    *,
    at: tuple[int, int] | None = None,
    delta: tuple[int, int] | None = None,
    scroll: tuple[int, int] | None = None,
    buttons: Sequence[str] = (),
) -> bytes:
    """Encode a MouseAction."""
    vectors = b"".join(
        field(number, vector(*value))
        for number, value in ((1, at), (3, delta), (4, scroll))
        if value is not None
    )
    return vectors + b"".join(field(9, name) for name in buttons)


def pad(
    *,
    buttons: Sequence[str] = (),
    left: tuple[float, float] = (0.0, 0.0),
    pressed: bool = False,
    trigger: float = 0.0,
) -> bytes:
    """Encode a GamePadAction."""
    stick = field(1, left[0]) + field(2, left[1]) + field(3, int(pressed))
    held = b"".join(field(PAD[name], 1) for name in buttons)
    return field(1, held) + field(2, stick) + field(5, trigger)


def action(
    *, keys: Sequence[str] = (), known: bool = True, mouse: bytes = b"", pad: bytes = b""
) -> bytes:
    """Encode a LowLevelAction."""
    message = field(2, b"".join(field(1, key) for key in keys)) if keys else b""
    message += field(3, 1) if known else b""
    message += field(4, mouse) if mouse else b""
    return message + (field(5, pad) if pad else b"")


def key_event(time_us: int, key: str, *, pressed: bool = True, simulated: bool = False) -> bytes:
    """Encode the InputEvent of a key."""
    return event(time_us, 2, field(1, key) + field(2, int(pressed)), simulated=simulated)


def event(time_us: int, number: int, content: bytes, *, simulated: bool = False) -> bytes:
    """Encode an InputEvent: field `number` of it is what happened."""
    message = field(number, content) + field(6, time_us * 1000)
    return message + (field(10, 1) if simulated else b"")


def annotation(
    user: bytes | None = b"\x18\x01",
    *,
    system: bytes | None = None,
    taken_us: int = 0,
    events: Sequence[bytes] = (),
) -> bytes:
    """Encode a FrameAnnotation; the user's action is known and empty unless told."""
    message = b"" if user is None else field(1, user)
    message += b"" if system is None else field(6, system)
    message += field(8, taken_us * 1000) if taken_us else b""
    return message + b"".join(field(9, content) for content in events)


def video_annotation(*annotations: bytes) -> bytes:
    """Encode the file's message: metadata, then the annotations, then the version."""
    return field(2, field(1, "id")) + b"".join(field(3, a) for a in annotations) + field(6, 4)


def write(folder: Path, *annotations: bytes) -> LogFiles:
    """Write annotation.proto beside a video that has no content."""
    files = LogFiles(video=folder / "192x192.mp4", log=folder / "annotation.proto")
    files.video.touch()
    files.log.write_bytes(video_annotation(*annotations))
    return files
