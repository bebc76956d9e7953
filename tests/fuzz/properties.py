"""What must be true of whatever a reader returns, however broken the log was."""

from __future__ import annotations

import numpy as np

from playmill.inputs import DEVICES, KINDS, MASKS, InputEvents, RejectedLines
from playmill.inputs.lines import MAX_REJECTED_BYTES, MAX_REJECTED_LINES

MAX_GROWTH = 64
"""Bytes of a result for each byte of its files, on top of a constant: few lines say much, such as
that 500 keys are held no more."""
MAX_OVERHEAD = 1 << 16


def check_events(events: InputEvents) -> None:
    """Raise AssertionError unless `events` keeps what `InputEvents` promises."""
    count, code = len(events), events.code
    assert not count or events.timestamp_us[0] >= 0, "a time is negative"
    assert (events.timestamp_us[1:] >= events.timestamp_us[:-1]).all(), "times go back"
    assert (events.device < len(DEVICES)).all(), "no such device"
    assert (events.kind < len(KINDS)).all(), "no such kind"
    assert (code >= -1).all(), "a code below -1"
    assert (code < len(events.codes)).all(), "a code beyond the last"
    named = code >= 0
    devices = events.code_device[code[named]]
    assert (devices == events.device[named]).all(), "a code is another device's"
    pairs = list(zip(events.codes, events.code_device.tolist(), strict=True))
    assert pairs == sorted(set(pairs)), "codes are not unique and sorted"
    assert all(0 < len(name.encode()) <= 100 and "\0" not in name for name in events.codes)
    assert np.isfinite(events.value).all(), "a value is not finite"
    check_offsets(events.raw_offsets, len(events.raw))
    for mask in events.masks:
        assert mask.name in MASKS, "no such mask"
        assert -(1 << 63) <= mask.start_us <= mask.stop_us < 1 << 63, "a mask beyond 64 bits"
    check_rejected(events.rejected)


def check_rejected(rejected: RejectedLines) -> None:
    """Raise AssertionError unless the rejected lines are what they promise."""
    kept = len(rejected.line)
    assert kept == min(rejected.total, MAX_REJECTED_LINES), "rejected lines are not kept"
    assert len(rejected.reason) == kept
    assert all(rejected.reason), "rejected without a reason"
    assert len(rejected.raw_offsets) == kept + 1
    check_offsets(rejected.raw_offsets, len(rejected.raw))
    assert not kept or rejected.line.min() >= 1, "a line before the first"
    assert not kept or np.diff(rejected.raw_offsets).max() <= MAX_REJECTED_BYTES


def check_offsets(offsets: np.ndarray, size: int) -> None:
    """Raise AssertionError unless offsets cut `size` bytes into pieces."""
    assert offsets[0] == 0, "offsets do not begin at 0"
    assert offsets[-1] == size, "offsets do not end at the end"
    assert (offsets[1:] >= offsets[:-1]).all(), "offsets go back"


def check_size(events: InputEvents, input_bytes: int) -> None:
    """Raise AssertionError if a result is out of all proportion to what it was read from."""
    arrays = (
        events.timestamp_us, events.device, events.kind, events.code, events.value, events.raw,
        events.raw_offsets, events.rejected.line, events.rejected.raw, events.rejected.raw_offsets,
    )  # fmt: skip
    size = sum(array.nbytes for array in arrays) + sum(map(len, events.rejected.reason))
    most = MAX_GROWTH * input_bytes + MAX_OVERHEAD
    assert size <= most, f"{size} bytes of events from {input_bytes} bytes"


def num_raw(events: InputEvents) -> int:
    """Return how many events carry what was logged; each such line is carried once."""
    return int(np.count_nonzero(np.diff(events.raw_offsets)))
