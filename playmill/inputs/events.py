"""Input events as arrays. Knows no file format; every reader returns an `InputEvents`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.config import MAX_TIME_US
from playmill.phrases import plural

DEVICES = ("keyboard", "mouse", "gamepad", "other")
"""Names of the values of `InputEvents.device`."""
KINDS = ("press", "release", "move", "position", "scroll", "axis", "state", "other")
"""Names of the values of `InputEvents.kind`."""


MASKS = ("unknown", "gui", "unfocused", "idle", "simulated")
"""Names that a `Mask` may have.

unknown: what was held is not known; gui: a menu or inventory was open; unfocused: the game did not
get the input; idle: the recorder saw no player; simulated: the input was not a person's.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask:
    """A span of time that the log says something about; events in it stay."""

    name: str
    """One of MASKS."""
    start_us: int
    """First microsecond."""
    stop_us: int
    """First microsecond after it."""

    def __post_init__(self) -> None:
        if self.name not in MASKS or self.start_us > self.stop_us:
            raise ValueError(f"{self!r} has no known name, or ends before it starts")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RejectedLines:
    """Lines of a log that are no events, kept so that nothing is dropped silently."""

    line: NDArray[np.int64]
    """(R,) 1-based line numbers."""
    reason: tuple[str, ...]
    """(R,) what is wrong with each line."""
    raw: NDArray[np.uint8]
    """The lines' bytes, one after the other; at most 4 KiB of each."""
    raw_offsets: NDArray[np.int64]
    """(R+1,) line i is raw[raw_offsets[i]:raw_offsets[i+1]]."""
    total: int
    """How many lines were rejected; more than R where there were too many to keep."""

    @classmethod
    def none(cls) -> RejectedLines:
        """Return the value for a log without rejected lines."""
        return cls(
            line=np.zeros(0, np.int64),
            reason=(),
            raw=np.zeros(0, np.uint8),
            raw_offsets=np.zeros(1, np.int64),
            total=0,
        )

    def sentence(self) -> str:
        """Say how many lines there are, what is wrong with the first, and where all are."""
        first = f"line {self.line[0]}: {self.reason[0]}"
        if self.total == 1:
            return (
                f"1 line of the input log was not understood ({first}); /inputs/rejected_line and"
                " rejected_reason have it"
            )
        return (
            f"{plural(self.total, 'line')} of the input log were not understood (first {first});"
            " /inputs/rejected_line and rejected_reason list them"
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InputEvents:
    """All events of one log, in time order (stable for equal times). Arrays are read-only."""

    timestamp_us: NDArray[np.int64]
    """(M,) ascending, on the recording's clock, as logged."""
    device: NDArray[np.uint8]
    """(M,) index into DEVICES."""
    kind: NDArray[np.uint8]
    """(M,) index into KINDS."""
    code: NDArray[np.int32]
    """(M,) index into `codes`; -1 where there is none (moves, scrolls)."""
    codes: tuple[str, ...]
    """(C,) the log's own names, unique per (name, device), sorted."""
    code_device: NDArray[np.uint8]
    """(C,) index into DEVICES."""
    value: NDArray[np.float32]
    """(M, 2) dx, dy | x, y | scroll x, y | axis value, 0 | state: 1 held or 0 not, 0
    | other: the log format's own | 0, 0."""
    raw: NDArray[np.uint8]
    """Each event as it was logged, without the line end, one after the other."""
    raw_offsets: NDArray[np.int64]
    """(M+1,) event i was raw[raw_offsets[i]:raw_offsets[i+1]]."""
    mouse_unit: str = "counts"
    """Unit of `value` for moves."""
    w3c_codes: tuple[str, ...] | None = None
    """(C,) KeyboardEvent.code of each of `codes`, "" where unknown; None: found by its name."""
    masks: tuple[Mask, ...] = ()
    """Spans of time that the log says something about, in any order."""
    duplicates: int = 0
    """Lines left out by the reader as copies of another."""
    rejected: RejectedLines = field(default_factory=RejectedLines.none)
    """Lines that are no events."""
    warnings: tuple[str, ...] = ()
    """Sentences: what is wrong with the log as a whole, and cannot be seen in sorted events."""

    def __post_init__(self) -> None:
        count = len(self.timestamp_us)
        shapes = {
            "timestamp_us": ((count,), np.int64),
            "device": ((count,), np.uint8),
            "kind": ((count,), np.uint8),
            "code": ((count,), np.int32),
            "code_device": ((len(self.codes),), np.uint8),
            "value": ((count, 2), np.float32),
            "raw": ((len(self.raw),), np.uint8),
            "raw_offsets": ((count + 1,), np.int64),
        }
        for name, (shape, dtype) in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name=} is {array.shape} {array.dtype}, not {shape} {dtype}")
            object.__setattr__(self, name, _frozen(array))
        if self.w3c_codes is not None and len(self.w3c_codes) != len(self.codes):
            raise ValueError(f"{len(self.w3c_codes)} w3c_codes for {len(self.codes)} codes")
        if count and bool((np.diff(self.timestamp_us) < 0).any()):
            raise ValueError("timestamp_us is not ascending")

    def __len__(self) -> int:
        return len(self.timestamp_us)

    def __repr__(self) -> str:
        return f"InputEvents({len(self)} events, {len(self.codes)} codes)"

    @classmethod
    def none(cls) -> InputEvents:
        """Return the value for an empty log: nothing was done, and that is known."""
        return cls(
            timestamp_us=np.zeros(0, np.int64),
            device=np.zeros(0, np.uint8),
            kind=np.zeros(0, np.uint8),
            code=np.zeros(0, np.int32),
            codes=(),
            code_device=np.zeros(0, np.uint8),
            value=np.zeros((0, 2), np.float32),
            raw=np.zeros(0, np.uint8),
            raw_offsets=np.zeros(1, np.int64),
        )

    @classmethod
    def without_log(cls) -> InputEvents:
        """Return the value for a recording without a log: nobody knows what was done."""
        always = Mask(name="unknown", start_us=-MAX_TIME_US, stop_us=MAX_TIME_US)
        return replace(cls.none(), masks=(always,))

    def raw_line(self, index: int) -> bytes:
        """Return event `index` as it was logged."""
        return bytes(self.raw[self.raw_offsets[index] : self.raw_offsets[index + 1]])


def pack_lines(lines: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Join `lines` into the (bytes, offsets) form of `raw` and `raw_offsets`."""
    offsets = np.zeros(len(lines) + 1, np.int64)
    np.cumsum([len(line) for line in lines], out=offsets[1:])
    return np.frombuffer(b"".join(lines), np.uint8).copy(), offsets
