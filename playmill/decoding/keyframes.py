"""Tell what a packet marked as a keyframe is worth. Knows bytes; no files, no decoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class _UnitRule:
    """How a codec's units (NAL units) tell whether decoding may start at a packet."""

    kind: Callable[[int], int]
    """Type of a unit, from its first byte."""
    slices: range
    """Types that hold picture data."""
    clean: range
    """Types of slices that need nothing before them."""
    leading: range
    """Of these, types behind which there may be pictures that do, and are shown before."""
    recovery: int
    """Type of the messages that can announce a recovery point; -1: those are of no use."""
    length_at: int
    """Where in the container's parameters the size of the units' length stands."""


CLOSED, OPEN, RECOVERY, NOTHING = 0, 1, 2, -1
"""What a keyframe is worth. Behind one that is not closed may come pictures that are shown before
it, and that no decoder gives which starts at it."""

# A recovery point (H.264 open GOP) counts as a keyframe that needs a pre-roll.
# FFmpeg's HEVC decoder starts at none; open GOPs have a CRA there, which is clean.
UNIT_RULES = {
    "h264": _UnitRule(
        kind=lambda head: head & 0x1F,
        slices=range(1, 6),
        clean=range(5, 6),
        leading=range(0),
        recovery=6,
        length_at=4,
    ),
    "hevc": _UnitRule(
        kind=lambda head: head >> 1 & 0x3F,
        slices=range(32),
        clean=range(16, 22),
        leading=range(21, 22),
        recovery=-1,
        length_at=21,
    ),
}


def key_reader(codec: str, parameters: bytes) -> Callable[[Any], int]:
    """Return the function that tells what a packet marked as a keyframe is worth.

    CLOSED, OPEN: decoding may start at it; RECOVERY: frames from it on are right if it is reached
    from before; NOTHING: a gradual refresh, or a recorder that marks every packet.

    Args:
        codec: FFmpeg's name of it.
        parameters: what the container stores of the codec's parameters ("extradata").
    Source: ISO/IEC 14496-15 (length-prefixed units); ITU-T H.264 and H.265, annex B (start codes).
    """
    rule = UNIT_RULES.get(codec)
    if rule is None:
        return lambda packet: CLOSED
    prefixed = len(parameters) > rule.length_at and parameters[0] == 1
    length_bytes = (parameters[rule.length_at] & 3) + 1 if prefixed else 0

    def worth(packet: Any) -> int:
        data = bytes(packet)
        recovery = NOTHING
        for at in _prefixed_units(data, length_bytes) if prefixed else _annex_b_units(data):
            kind = rule.kind(data[at])
            if kind in rule.slices:
                clean = OPEN if kind in rule.leading else CLOSED
                return clean if kind in rule.clean else recovery
            if kind == rule.recovery:
                recovery = max(recovery, _recovery_point(data, at + 1))
        return NOTHING

    return worth


def _recovery_point(data: bytes, at: int) -> int:
    """Return RECOVERY if the supplemental message at `at` names this very picture as recovered.

    Else NOTHING.

    Source: ITU-T H.264, 7.3.2.3 (messages), D.1.8 (recovery point), 9.1 (Exp-Golomb code: a
    leading 1 is 0). After a gradual refresh pictures are about right, not the very same.
    """
    while at + 2 < len(data) and data[at] != 0x80:
        kind, at = _message_number(data, at)
        length, at = _message_number(data, at)
        if kind == 6 and at < len(data):
            return RECOVERY if data[at] & 0x80 else NOTHING
        at += length
    return NOTHING


def _message_number(data: bytes, at: int) -> tuple[int, int]:
    total = 0
    while at < len(data) and data[at] == 0xFF:
        total, at = total + 0xFF, at + 1
    return (total + data[at], at + 1) if at < len(data) else (total, at)


def _prefixed_units(data: bytes, length_bytes: int) -> Iterator[int]:
    """Yield where each unit begins, behind its length."""
    at = 0
    while at + length_bytes < len(data):
        yield at + length_bytes
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")


def _annex_b_units(data: bytes) -> Iterator[int]:
    """Yield where each unit begins, behind its start code."""
    return (match.end() for match in re.finditer(rb"\x00\x00\x01(?=.)", data, re.DOTALL))
