"""Reads the protobuf wire format, as far as its bytes reach. Knows no message.

A message is its fields by number; a field of another wire type than it should have, a length beyond
the end and an endless number are Rejected, and fields that nobody asks for cost nothing.

Source:
    https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from playmill.inputs.lines import Rejected

Buffer = bytes | memoryview
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; the others (groups) are in no message of today."""
_VARINT_BYTES = 10
_FLOAT = struct.Struct("<f")


def read_varint(data: Buffer, place: int) -> tuple[int, int]:
    """Return the uint64 at `place`, and the place after it; Rejected: it has no end."""
    value = shift = 0
    for byte in data[place : place + _VARINT_BYTES]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + shift // 7
    raise Rejected(f"a number at byte {place} has no end")


def field_span(data: Buffer, place: int = 0) -> tuple[int, int, int]:
    """Return number, start of content and stop of the field at `place`; it may reach beyond `data`.

    Raises:
        Rejected: it is none.
    """
    tag, start = read_varint(data, place)
    number, wire_type = tag >> 3, tag & 7
    if not number:
        raise Rejected(f"a field at byte {place} has the number 0")
    if wire_type == VARINT:
        return number, start, read_varint(data, start)[1]
    if wire_type == BYTES:
        size, start = read_varint(data, start)
        return number, start, start + size
    if wire_type in (FIXED32, FIXED64):
        return number, start, start + (4 if wire_type == FIXED32 else 8)
    raise Rejected(f"a field at byte {place} has the wire type {wire_type}")


def read_fields(data: Buffer) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield number, wire type and value of each field of a message; raise Rejected."""
    view, place = memoryview(data), 0
    while place < len(view):
        number, start, stop = field_span(view, place)
        if stop > len(view):
            raise Rejected(
                f"a field at byte {place} ends {stop - len(view)} bytes after its message"
            )
        wire_type = view[place] & 7
        value = read_varint(view, start)[0] if wire_type == VARINT else view[start:stop]
        yield number, wire_type, value
        place = stop


class Message:
    """One message's fields; of what is there more than once, the last, unless all are asked for."""

    def __init__(self, data: Buffer) -> None:
        self._fields: dict[int, list[tuple[int, int | memoryview]]] = {}
        for number, wire_type, value in read_fields(data):
            self._fields.setdefault(number, []).append((wire_type, value))

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def _all(self, number: int, wire_type: int) -> Iterator[int | memoryview]:
        for found, value in self._fields.get(number, ()):
            if found != wire_type:
                raise Rejected(f"field {number} has the wire type {found}, not {wire_type}")
            yield value

    def parts(self, number: int) -> list[memoryview]:
        """Return the bytes of every field of that number."""
        return [value for value in self._all(number, BYTES) if isinstance(value, memoryview)]

    def message(self, number: int) -> Message | None:
        """Return a message inside; None: there is none."""
        parts = self.parts(number)
        return Message(parts[-1]) if parts else None

    def uint(self, number: int) -> int:
        """Return an unsigned number; 0 where there is none, as protobuf has it."""
        values = [value for value in self._all(number, VARINT) if isinstance(value, int)]
        return values[-1] if values else 0

    def bool(self, number: int) -> bool:
        """Return a truth value; False where there is none."""
        return self.uint(number) != 0

    def int32(self, number: int) -> int:
        """Return a signed number; 0 where there is none."""
        value = self.uint(number) & 0xFFFF_FFFF
        return value - (1 << 32) if value >> 31 else value

    def float(self, number: int) -> float:
        """Return a finite float32; 0 where there is none."""
        values = [value for value in self._all(number, FIXED32) if isinstance(value, memoryview)]
        value: float = _FLOAT.unpack(values[-1])[0] if values else 0.0
        if not math.isfinite(value):
            raise Rejected(f"field {number} is {value}")
        return value

    def texts(self, number: int) -> list[str]:
        """Return every text of that number."""
        try:
            return [bytes(value).decode() for value in self.parts(number)]
        except UnicodeDecodeError:
            raise Rejected(f"field {number} is not UTF-8") from None

    def text(self, number: int) -> str:
        """Return a text; "" where there is none."""
        texts = self.texts(number)
        return texts[-1] if texts else ""
