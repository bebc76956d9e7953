"""What recorders, disks and people do to logs: changes that leave most of a valid log as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random

from playmill.inputs.lines import MAX_LINE_BYTES
from playmill.inputs.protobuf_wire import VARINT, Rejected, read_fields
from tests.unit.p2p_samples import varint

_TOKEN = re.compile(
    rb'-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|"(?:[^"\\]|\\.)*"|[A-Za-z_]+|[\[{]\s*[\]}]', re.S
)
_ODD_TOKENS = (
    b"0", b"-0", b"-1", b"1", b"7", b"0.5", b"-0.0", b"1e3", b"1.5e-9", b"1e999", b"-1e999",
    b"1e-999", b"16777217", b"4294967296", b"9223372036854775807", b"9223372036854775808",
    b"-9223372036854775809", b"18446744073709551615", b"1767633347.5859811", b"1649575088006",
    b"1e18", b"1" * 30, b"9" * 400, b"0" * 50 + b"1", b"NaN", b"Infinity", b"-Infinity",
    b"true", b"false", b"null", b"[]", b"{}", b"[1]", b"[[]]", b'{"a":1}', b'""', b'"a"', b'"0"',
    b'"\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"' + b"n" * 101 + b'"', b'"\xc3\xa9"',
    b'"\xff"', b"'", b"", b"01", b"+1", b".5", b"5.", b"0x10", b"1_000", "\u0661\u0662".encode(),
)  # fmt: skip
_ODD_LINES = (
    b"", b" ", b"\t", b"\0", b"\0" * 40, b"null", b"[]", b"{}", b"1", b'"a"', b"{", b"}", b",",
    b"[" * 3000, b'{"a":' * 2000, b"\xef\xbb\xbf", b"\xff\xfe{\0}\0", b"\x0c", b"\x1c", b"\xc2\x85",
)  # fmt: skip
_LONG, _LONG_LINES, _LONG_CHANGED = 0.01, 400, 0.004
"""Share of logs that are long, for readers that take many lines at once; most lines are sound."""
_ENDS = (b"\n",) * 12 + (b"\r\n", b"\r\n", b"\r", b"\n\n", b"\n\r", b"", b"\0\n", b" \n")


def changed_bytes(rng: Random, data: bytes) -> bytes:
    """Return `data` with a few bytes put in, left out or replaced at one place, or cut off."""
    place = rng.randrange(len(data) + 1)
    if rng.random() < 0.1:
        return data[:place]
    return data[:place] + rng.randbytes(rng.randrange(5)) + data[place + rng.randrange(5) :]


@cache
def _spans(line: bytes) -> list[tuple[int, int]]:
    return [found.span() for found in _TOKEN.finditer(line)]


def changed_text(rng: Random, line: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return a line of JSON or CSV with one value changed: into an odd one, or that of another.

    Args:
        others: valid lines, whose values are taken too.
    """
    spans = _spans(line)
    if not spans or rng.random() < 0.25:
        return changed_bytes(rng, line)
    start, stop = rng.choice(spans)
    kind = rng.random()
    if others and kind < 0.25:
        other = rng.choice(others)
        first, last = rng.choice(_spans(other))
        return line[:start] + other[first:last] + line[stop:]
    if kind < 0.32:  # a field twice, with another value
        name = line[start:stop]
        return line[:start] + name + b":" + rng.choice(_ODD_TOKENS) + b"," + line[start:]
    if kind < 0.36:
        return line[:start] + b"[" * rng.randrange(3000) + line[start:]
    if kind < 0.4:  # a number with more or fewer digits
        return line[:stop] + rng.choice((b"0", b"000", b".9999999", b"e2", b"e-2")) + line[stop:]
    return line[:start] + rng.choice(_ODD_TOKENS) + line[stop:]


def changed_lines(rng: Random, lines: Sequence[bytes], *, first: bytes | None = None) -> bytes:
    """Return a log made of some of `lines`, many of them changed.

    Args:
        first: a first line that is mostly left where it belongs.
    """
    is_long = rng.random() < _LONG
    changed = _LONG_CHANGED if is_long else 0.35
    chosen = [] if first is None or rng.random() < 0.03 else [first]
    chosen += rng.choices(lines, k=rng.randrange(_LONG_LINES if is_long else 9))
    for place, line in enumerate(chosen):
        kind = rng.random()
        if kind < changed and not (place == 0 and line is first and kind > 0.03):
            chosen[place] = changed_text(rng, line, lines)
        elif kind > 1 - changed / 10:
            chosen[place] = rng.choice(_ODD_LINES)
    end = rng.choice(_ENDS)
    content = b"".join([line + end for line in chosen])
    kind = rng.random()
    if kind < 0.03:
        return b"\xef\xbb\xbf" + content
    if kind < 0.06:
        return content[: rng.randrange(len(content) + 1)]
    if kind < 0.09:
        return changed_bytes(rng, content)
    if kind < 0.0905:
        return content + rng.choice((b"x", b"\0", b" ", b"[", b"9")) * (MAX_LINE_BYTES + 1)
    return content


def changed_message(rng: Random, data: bytes, depth: int = 0) -> bytes:
    """Return a message of protobuf with one field changed, however deep; lengths stay right."""
    try:
        fields = list(read_fields(data))
    except Rejected:
        return changed_bytes(rng, data)
    if not fields or rng.random() < 0.1:
        return changed_bytes(rng, data)
    chosen = rng.randrange(len(fields))
    made = [field(tag, value) for tag, value in fields]
    tag, value = fields[chosen]
    kind = rng.random()
    if isinstance(value, bytes) and tag & 7 == 2 and depth < 5 and kind < 0.6:
        made[chosen] = field(tag, changed_message(rng, value, depth + 1))
    elif kind < 0.7:
        made[chosen] = odd_field(rng, tag >> 3)
    elif kind < 0.8:
        made[chosen] = odd_field(rng, rng.randrange(1, 12))
    elif kind < 0.87:
        made.insert(chosen, rng.choice(made))
    elif kind < 0.94:
        del made[chosen]
    else:
        made[chosen] = changed_bytes(rng, made[chosen])
    return b"".join(made)


def field(tag: int, value: int | bytes) -> bytes:
    """Encode a field whose tag is known."""
    if isinstance(value, int):
        return varint(tag) + varint(value)
    size = varint(len(value)) if tag & 7 == 2 else b""
    return varint(tag) + size + value


def odd_field(rng: Random, number: int) -> bytes:
    """Encode a field of a number with a value that few would expect."""
    kind = rng.randrange(6)
    if kind == 0:
        value = rng.choice((0, 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1))
        return field(number << 3 | VARINT, value)
    if kind == 1:
        floats = (b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"\xff\xff\x7f\x7f", b"\x01\0\0\0")
        return field(number << 3 | 5, rng.choice(floats))
    if kind == 2:
        return field(number << 3 | 1, rng.randbytes(8))
    if kind == 3:  # a length that lies, an endless number
        return varint(number << 3 | 2) + rng.choice((b"\xff\xff\xff\x7f", b"\xff" * 12, b"\x7f"))
    texts = (b"", b"w", b"\0", b"\xff", b"n" * 200, b"Unknown(7)", b"\xf0\x9f\x98\x80", b"0")
    return field(number << 3 | 2, rng.choice(texts))
