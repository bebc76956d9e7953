"""The input events of a published dataset, as the reader gave them. Needs numpy and h5py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from playmill.dataset import Dataset
from playmill.inputs.events import DEVICES, MASKS, InputEvents, Mask, RejectedLines

_KEYBOARD = DEVICES.index("keyboard")


def stored_texts(dataset: Dataset, path: str) -> tuple[str, ...]:
    """Return the strings of the array `path`."""
    return tuple(dataset.h5[path].asstr()[...].tolist())


def stored_events(dataset: Dataset) -> InputEvents:
    """Return what decides alignment and actions, without what was logged word by word."""
    array = dataset.array
    spans = zip(array("/inputs/mask").tolist(), array("/inputs/mask_span_us").tolist(), strict=True)
    return InputEvents(
        timestamp_us=array("/inputs/timestamp_us"),
        device=array("/inputs/device"),
        kind=array("/inputs/kind"),
        code=array("/inputs/code"),
        codes=stored_texts(dataset, "/inputs/codes"),
        code_device=array("/inputs/code_device"),
        value=array("/inputs/value"),
        raw=np.zeros(0, np.uint8),
        raw_offsets=array("/inputs/raw_offsets"),
        mouse_unit=str(dataset.h5["/actions/mouse"].attrs["unit"]),
        masks=tuple(
            Mask(name=MASKS[name], start_us=start, stop_us=stop) for name, (start, stop) in spans
        ),
    )


def whole_events(dataset: Dataset) -> InputEvents:
    """Return `stored_events` with everything else: raw and rejected lines, codes, counts."""
    events = stored_events(dataset)
    rejected = dataset.h5["/inputs/rejected_line"]
    keys = dict(zip(dataset.key_names, dataset.w3c_codes, strict=True))
    return replace(
        events,
        raw=dataset.h5["/inputs/raw"][...],
        w3c_codes=tuple(
            keys[name] if device == _KEYBOARD else ""
            for name, device in zip(events.codes, events.code_device.tolist(), strict=True)
        ),
        duplicates=int(dataset.h5["/sync"].attrs["duplicates"]),
        rejected=RejectedLines(
            line=rejected[...],
            reason=stored_texts(dataset, "/inputs/rejected_reason"),
            raw=dataset.h5["/inputs/rejected_raw"][...],
            raw_offsets=dataset.array("/inputs/rejected_raw_offsets"),
            total=int(rejected.attrs["total"]),
        ),
    )
