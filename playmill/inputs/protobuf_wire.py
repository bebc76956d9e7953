"""Reads the protobuf wire format, as far as its bytes reach. Knows no message.

A message is its fields by number; a field of another wire type than it should have, a length beyond
the end and an endless number are Rejected, and fields that nobody asks for are passed over.

Source:
    https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

from playmill.inputs.lines import Rejected

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; the others (groups) are in no message of today."""
_VARINT_BYTES = 10
_FLOAT = struct.Struct("<f")


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the uint64 at `place`, and the place after it; Rejected: it has no end."""
    if place < len(data) and data[place] < 0x80:  # most numbers are small
        return data[place], place + 1
    value = shift = 0
    for byte in data[place : place + _VARINT_BYTES]:
        if byte < 0x80:
            return (value | byte << shift) & 0xFFFF_FFFF_FFFF_FFFF, place + shift // 7 + 1
        value |= (byte & 0x7F) << shift
        shift += 7
    raise Rejected(f"a number at byte {place} has no end")


def field_span(data: bytes, place: int = 0) -> tuple[int, int, int, int]:
    """Return tag, value if it is a varint, and start and stop of the content of a field.

    The tag is 8 * number + wire type. A content may reach beyond `data`.

    Raises:
        Rejected: there is no field at `place`.
    """
    if place < len(data) and data[place] < 0x80:  # most tags are small
        tag, start = data[place], place + 1
    else:
        tag, start = read_varint(data, place)
    wire_type = tag & 7
    if tag < 8:
        raise Rejected(f"a field at byte {place} has the number 0")
    if wire_type == VARINT:
        value, stop = read_varint(data, start)
        return tag, value, start, stop
    if wire_type == BYTES:
        size, start = read_varint(data, start)
        return tag, 0, start, start + size
    if wire_type in (FIXED32, FIXED64):
        return tag, 0, start, start + (4 if wire_type == FIXED32 else 8)
    raise Rejected(f"a field at byte {place} has the wire type {wire_type}")


def read_fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """Return tag and value of each field of a message; raise Rejected."""
    fields: list[tuple[int, int | bytes]] = []
    place, size = 0, len(data)
    while place < size:
        # Most fields have a tag of one byte, and a length or a number of one: there are millions.
        tag = data[place]
        if 8 <= tag < 0x80 and place + 1 < size:
            number, wire_type = data[place + 1], tag & 7
            if wire_type == VARINT:
                place += 2
                if number >= 0x80:
                    number, place = read_varint(data, place - 1)
                fields.append((tag, number))
                continue
            stop = place + 2 + number
            if wire_type == BYTES and number < 0x80 and stop <= size:
                fields.append((tag, data[place + 2 : stop]))
                place = stop
                continue
        tag, value, start, stop = field_span(data, place)
        if stop > size:
            raise Rejected(f"a field at byte {place} ends {stop - size} bytes after its message")
        fields.append((tag, value if tag & 7 == VARINT else data[start:stop]))
        place = stop
    return fields


class Message:
    """One message's fields; of what is there more than once, the last, unless all are asked for."""

    def __init__(self, data: bytes) -> None:
        self._fields = read_fields(data)
        self._last = {tag >> 3: (tag, value) for tag, value in self._fields}

    def __contains__(self, number: int) -> bool:
        return number in self._last

    def first_of(self, numbers: Iterable[int]) -> int | None:
        """Return the first of `numbers` that a field has; None: no field has any."""
        for number in numbers:
            if number in self._last:
                return number
        return None

    def _value(self, number: int, wire_type: int) -> int | bytes | None:
        field = self._last.get(number)
        if field is None:
            return None
        if field[0] & 7 != wire_type:
            _check_type(number, field[0] & 7, wire_type)
        return field[1]

    def parts(self, number: int) -> list[bytes]:
        """Return the bytes of every field of that number."""
        parts = []
        for tag, value in self._fields:
            if tag >> 3 == number:
                _check_type(number, tag & 7, BYTES)
                assert isinstance(value, bytes)
                parts.append(value)
        return parts

    def message(self, number: int) -> Message | None:
        """Return a message inside; None: there is none."""
        value = self.part(number)
        return None if value is None else Message(value)

    def part(self, number: int) -> bytes | None:
        """Return the bytes of a message inside; None: there is none."""
        value = self._value(number, BYTES)
        return value if isinstance(value, bytes) else None

    def uint(self, number: int) -> int:
        """Return an unsigned number; 0 where there is none, as protobuf has it."""
        value = self._value(number, VARINT)
        return value if isinstance(value, int) else 0

    def bool(self, number: int) -> bool:
        """Return a truth value; False where there is none."""
        return self.uint(number) != 0

    def int32(self, number: int) -> int:
        """Return a signed number; 0 where there is none."""
        value = self.uint(number) & 0xFFFF_FFFF
        return value - (1 << 32) if value >> 31 else value

    def float(self, number: int) -> float:
        """Return a finite float32; 0 where there is none."""
        value = self._value(number, FIXED32)
        number_read: float = _FLOAT.unpack(value)[0] if isinstance(value, bytes) else 0.0
        if not math.isfinite(number_read):
            raise Rejected(f"field {number} is {number_read}")
        return number_read

    def texts(self, number: int) -> list[str]:
        """Return every text of that number."""
        try:
            return [part.decode() for part in self.parts(number)]
        except UnicodeDecodeError:
            raise Rejected(f"field {number} is not UTF-8") from None

    def text(self, number: int) -> str:
        """Return a text; "" where there is none."""
        texts = self.texts(number)
        return texts[-1] if texts else ""


def _check_type(number: int, found: int, expected: int) -> None:
    if found != expected:
        raise Rejected(f"field {number} has the wire type {found}, not {expected}")
