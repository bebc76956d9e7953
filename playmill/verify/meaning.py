"""What a dataset file means: everything that follows from something else in it, computed again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import schema, synchronizer
from playmill.alignment import actions, gates
from playmill.alignment.actions import Actions
from playmill.alignment.gates import parse_gate
from playmill.alignment.report import alignment_report
from playmill.config import LINE_POLICY, POLICIES
from playmill.dataset import Dataset
from playmill.decoding.motion import COLUMNS
from playmill.inputs.events import DEVICES, KINDS, MASKS, InputEvents
from playmill.reading.row_reader import blocks
from playmill.reading.stored_events import stored_events, stored_texts
from playmill.synchronizer import Alignment

FORMULA_FRAMES = 1 << 16
"""Frames whose times are computed at a time."""


def frames(dataset: Dataset) -> Iterator[str]:
    """Frames: times, pts, flags and what the file says of itself."""
    if dataset.clock not in schema.CLOCKS:
        yield f"clock is {dataset.clock!r}, not one of {', '.join(schema.CLOCKS)}"
    if int(dataset.h5.attrs["schema_version"]) != schema.SCHEMA_VERSION:
        yield f"schema_version is {dataset.h5.attrs['schema_version']}"
    if not isinstance(json.loads(dataset.h5.attrs["warnings"]), list):
        yield "warnings is not a list"
    video = dataset.provenance.get("video")
    if not isinstance(video, dict) or not {"name", "digest"} <= set(video):
        yield "provenance does not name the video and its digest"
    times, pts = dataset.timestamps_us, dataset.pts
    for name, values in (("timestamp_us", times), ("pts", pts)):
        if bool((values[1:] <= values[:-1]).any()):
            at = int(np.argmax(values[1:] <= values[:-1])) + 1
            yield f"/frames/{name} does not increase strictly at frame {at}"
    for start in range(0, len(times), FORMULA_FRAMES):
        rows = slice(start, start + FORMULA_FRAMES)
        wrong = np.flatnonzero(times[rows] != _times(pts[rows], dataset))
        if len(wrong):
            frame, expected = start + int(wrong[0]), _times(pts[rows], dataset)[wrong[0]]
            yield f"/frames/timestamp_us of frame {frame} is {times[frame]}; by its pts {expected}"
            break
    if dataset.motion is not None and dataset.names("/frames/motion") != COLUMNS:
        yield f"/frames/motion: names are not {', '.join(COLUMNS)}"
    if dataset.names("/frames/flags") != schema.FRAME_FLAGS:
        yield f"/frames/flags: names are not {', '.join(schema.FRAME_FLAGS)}"
    if bool((dataset.flags >> len(schema.FRAME_FLAGS)).any()):
        yield "/frames/flags has bits without a name"


def _times(pts: NDArray[np.int64], dataset: Dataset) -> NDArray[Any]:
    """Return what the formula gives for `pts`, in Python integers where int64 may overflow."""
    num, den = dataset.time_base.numerator, dataset.time_base.denominator
    zero = dataset.pts_zero_us
    farthest = max(abs(int(pts.min(initial=0))), abs(int(pts.max(initial=0))))
    small = 2 * farthest * num * 1_000_000 + den + abs(zero) < 1 << 62
    ticks = pts if small else pts.astype(object)
    return np.asarray(zero + (2 * ticks * num * 1_000_000 + den) // (2 * den))


def inputs(dataset: Dataset) -> Iterator[str]:
    """Inputs: order, names and offsets."""
    array = dataset.array
    times = array("/inputs/timestamp_us")
    if bool((times[1:] < times[:-1]).any()):
        yield "/inputs/timestamp_us is not ascending"
    device, kind, code = (array(f"/inputs/{name}") for name in ("device", "kind", "code"))
    codes, code_device = stored_texts(dataset, "/inputs/codes"), array("/inputs/code_device")
    for name, names in (("device", DEVICES), ("kind", KINDS), ("mask", MASKS)):
        if dataset.names(f"/inputs/{name}") != names:
            yield f"/inputs/{name}: names are not {', '.join(names)}"
    for name, values, stop in (
        ("device", device, len(DEVICES)),
        ("kind", kind, len(KINDS)),
        ("mask", array("/inputs/mask"), len(MASKS)),
        ("code", code, len(codes)),
        ("code_device", code_device, len(DEVICES)),
    ):
        if bool((values >= stop).any()) or bool((values.astype(np.int64) < -1).any()):
            yield f"/inputs/{name} has values beyond its {stop} names"
            return
    coded = code >= 0
    if bool((code_device[code[coded]] != device[coded]).any()):
        yield "/inputs/code names a code of another device"
    if len(set(zip(codes, code_device.tolist(), strict=True))) < len(codes):
        yield "/inputs/codes names one twice"
    for name in ("raw", "rejected_raw"):
        yield from _wrong_offsets(f"/inputs/{name}_offsets", dataset, dataset.h5[f"/inputs/{name}"])
    mask_spans = array("/inputs/mask_span_us")
    if bool((mask_spans[:, 0] > mask_spans[:, 1]).any()):
        yield "/inputs/mask_span_us has a span that ends before it starts"
    total = int(dataset.h5["/inputs/rejected_line"].attrs["total"])
    if total < len(array("/inputs/rejected_line")):
        yield f"/inputs/rejected_line: total is {total}, fewer than are kept"


def _wrong_offsets(path: str, dataset: Dataset, into: Any) -> Iterator[str]:
    offsets = dataset.array(path)
    ends = (int(offsets[0]), int(offsets[-1])) if len(offsets) else ()
    if ends != (0, len(into)) or bool((np.diff(offsets) < 0).any()):
        yield f"{path} does not ascend from 0 to {len(into)}"


def synchronization(dataset: Dataset) -> Iterator[str]:
    """Synchronization: assignment and actions, computed again."""
    attrs = dataset.h5["/sync"].attrs
    window_ms = float(attrs["window_ms"])
    if attrs["policy"] not in (*POLICIES, LINE_POLICY):
        yield f"/sync: policy is {attrs['policy']!r}, not one of {', '.join(POLICIES)}"
        return
    alignment = synchronizer.align(
        dataset.timestamps_us,
        dataset.array("/inputs/timestamp_us"),
        policy=attrs["policy"],
        window_us=None if isinf(window_ms) else round(window_ms * 1000),
        latency_us=round(float(attrs["latency_ms"]) * 1000),
    )
    for name in ("frame", "offsets", "events"):
        yield from _differs(dataset, f"/sync/{name}", getattr(alignment, name))
    events = stored_events(dataset)
    acts = actions.build(dataset.timestamps_us, events, alignment)
    counts = {
        "assigned": alignment.assigned,
        "unassigned": alignment.unassigned,
        "auto_repeats": acts.auto_repeats,
        "orphan_releases": acts.orphan_releases,
    }
    for name, count in counts.items():
        if int(attrs[name]) != count:
            yield f"/sync: {name} is {attrs[name]}, but the arrays say {count}"
    for spec in schema.ARRAYS:
        if spec.path.startswith("/actions/"):
            yield from _differs(dataset, spec.path, getattr(acts, spec.path[len("/actions/") :]))
    yield from _report(dataset, events, alignment, acts)
    for path, names in (
        ("masks", acts.mask_names),
        ("keys", acts.key_names),
        ("buttons", acts.button_names),
        ("axes", acts.axis_names),
    ):
        if dataset.names(f"/actions/{path}") != names:
            yield f"/actions/{path}: names do not follow from /inputs/codes"


def _report(
    dataset: Dataset, events: InputEvents, alignment: Alignment, acts: Actions
) -> Iterator[str]:
    """Alignment report: what it says, against the arrays."""
    stored = json.loads(dataset.h5["/sync"].attrs["report"])
    if stored == {}:  # frames given one by one
        return
    known = stored if isinstance(stored, dict) else {}
    # These two are measured against what is not in the file, or is measured anew by nobody.
    measured = {name: known.get(name) for name in ("clock", "lag")}
    report = alignment_report(
        dataset.timestamps_us, dataset.flags, events, alignment, acts, **measured
    )
    required = [parse_gate(result["gate"]) for result in known.get("gates", ())]
    report["gates"] = gates.evaluate(required, report, latency_us=alignment.latency_us)
    for name in sorted(report):
        if known.get(name) != report[name]:
            yield (
                f"/sync: the report says {name} is {json.dumps(known.get(name))}, but the arrays"
                f" say {json.dumps(report[name])}"
            )
    warned = known.get("warnings")
    others = len(dataset.warnings) - len(warned) if isinstance(warned, list) else -1
    if others < 0 or dataset.warnings[others:] != warned:
        yield "/sync: the report's warnings are not the last of the dataset's"


def _differs(dataset: Dataset, path: str, expected: NDArray[Any]) -> Iterator[str]:
    node, start = dataset.h5[path], 0
    same = node.shape == expected.shape
    for block in blocks(node):
        same = same and np.array_equal(block, expected[start : start + len(block)])
        start += len(block)
    if not same:
        yield f"{path} does not follow from /inputs by the stated policy"
