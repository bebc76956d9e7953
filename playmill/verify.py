"""Check a dataset file against every promise of the format.

Reads every byte once, and computes again what follows from something else in the file: frame times,
assignment, actions. Memory does not grow with features, pictures and raw logs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from math import ceil, isinf, prod
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from playmill import actions, gates, schema, synchronizer
from playmill.actions import Actions
from playmill.alignment_report import alignment_report
from playmill.config import LINE_POLICY, POLICIES
from playmill.dataset import Dataset, open_dataset
from playmill.errors import DatasetError
from playmill.gates import parse_gate
from playmill.inputs.events import DEVICES, KINDS, MASKS
from playmill.motion import COLUMNS, MAX_CHANGE
from playmill.row_reader import RowReader, blocks
from playmill.stored_events import stored_events, stored_texts
from playmill.synchronizer import Alignment

FORMULA_FRAMES = 1 << 16
"""Frames whose times are computed at a time."""
_INFINITY = 0x7C00
"""The bits of an infinite float16."""
_UNREADABLE = (
    OSError,
    LookupError,
    ValueError,
    ArithmeticError,
    RuntimeError,
    TypeError,
    DatasetError,
)
"""What h5py raises for a damaged file, and what follows from nonsense in it."""


def verify(path: str | PathLike[str]) -> list[str]:
    """Return a sentence for each broken promise of the dataset file `path`; empty: it is sound.

    A file that is missing, or no dataset, has one problem. When arrays are missing or damaged, what
    they mean is not looked at.
    """
    try:
        dataset = open_dataset(Path(path))
    except (DatasetError, OSError) as error:
        return [error.problem if isinstance(error, DatasetError) else str(error)]
    with dataset:
        for checks in ((_attributes, _arrays), (_bytes, _text), (_frames, _inputs), (_sync,)):
            problems = [problem for check in checks for problem in _run(check, dataset)]
            if problems:
                return problems
    return []


def report_beside(path: str | PathLike[str]) -> list[str]:
    """Return what is wrong with the alignment report beside the sound dataset `path`.

    Nothing is wrong with none: a dataset may have been moved without it.
    """
    beside = Path(path).with_name(schema.REPORT_FILE_NAME)
    if not beside.exists():
        return []
    with open_dataset(path) as dataset:
        own = {"dataset_key": dataset.dataset_key, "session_id": dataset.session_id}
        expected = own | dataset.report
    try:
        same = json.loads(beside.read_bytes()) == expected
    except (OSError, ValueError, RecursionError):
        same = False
    if same:
        return []
    return [f"{beside.name} beside it is not the report that the dataset holds; delete it"]


def _run(check: Callable[[Dataset], Iterator[str]], dataset: Dataset) -> Iterator[str]:
    try:
        yield from check(dataset)
    except _UNREADABLE as error:
        what = (check.__doc__ or "").split(":")[0].lower()
        yield f"{what} cannot be read: {type(error).__name__}: {error}"


# ---- form ---------------------------------------------------------------------------------------


def _attributes(dataset: Dataset) -> Iterator[str]:
    """Attributes: those of the groups."""
    for path, specs in schema.GROUPS.items():
        group = dataset.h5.get(path)
        if not isinstance(group, h5py.Group):
            yield f"group {path} is missing"
            continue
        yield from _attrs_of(group, specs)


def _attrs_of(node: Any, specs: tuple[schema.Attr, ...]) -> Iterator[str]:
    for spec in specs:
        if spec.name not in node.attrs:
            yield f"{node.name}: attribute {spec.name} is missing"
        elif problem := _wrong_attr(node, spec):
            yield f"{node.name}: attribute {spec.name} {problem}"
    for name in sorted(set(node.attrs) - {spec.name for spec in specs}):
        yield f"{node.name}: attribute {name} is not of the format"


def _wrong_attr(node: Any, spec: schema.Attr) -> str:
    stored = node.attrs.get_id(spec.name)
    if spec.type in ("int64", "float64"):
        good = stored.shape == () and stored.dtype == np.dtype(spec.type)
        return "" if good else f"is {stored.dtype} {stored.shape}, not one {spec.type}"
    text = h5py.check_string_dtype(stored.dtype)
    if text is None or text.encoding != "utf-8" or text.length is not None:
        return f"is {stored.dtype}, not variable-length utf-8"
    if len(stored.shape) != (spec.type == "utf-8 list"):
        return f"has shape {stored.shape}, expected {spec.type}"
    if spec.type == "JSON":
        try:
            json.loads(node.attrs[spec.name])
        except ValueError as error:
            return f"is not JSON: {error}"
    return ""


def _stored_arrays(dataset: Dataset) -> Iterator[tuple[schema.Array, str]]:
    """Yield every array that must be there, or is there, with its path."""
    for spec in schema.ARRAYS:
        if spec.path == "/features/<key>":
            for key in dataset.feature_keys:
                yield spec, f"/features/{key}"
        elif not spec.optional or spec.path in dataset.h5:
            yield spec, spec.path


def _arrays(dataset: Dataset) -> Iterator[str]:
    """Arrays: their types, shapes, filters and attributes."""
    lengths: dict[str, int] = {}
    known = set(schema.GROUPS)
    for spec, path in _stored_arrays(dataset):
        known.add(path)
        node = dataset.h5.get(path)
        if not isinstance(node, h5py.Dataset):
            yield f"{path} is missing"
            continue
        yield from _wrong_array(node, spec, lengths if spec.layout != "features" else dict(lengths))
        yield from _attrs_of(node, spec.attrs)
    for key in dataset.feature_keys:
        if not schema.is_feature_key(key):
            yield f"/features: {key!r} is no feature key"
    if lengths.get("N") == 0:
        yield "there is no frame"
    found: list[str] = []
    dataset.h5.visit(lambda name: found.append(f"/{name}"))
    for path in sorted(set(found) - known):
        yield f"{path} is not of the format"


def _wrong_array(node: Any, spec: schema.Array, lengths: dict[str, int]) -> Iterator[str]:
    if spec.dtype == "utf-8":
        text = h5py.check_string_dtype(node.dtype)
        if text is None or text.encoding != "utf-8" or text.length is not None:
            yield f"{node.name} is {node.dtype}, not variable-length utf-8"
    elif node.dtype != np.dtype(spec.dtype):
        yield f"{node.name} is {node.dtype}, not {spec.dtype}"
    if len(node.shape) != len(spec.shape):
        yield f"{node.name} has shape {node.shape}, not ({', '.join(spec.shape)})"
        return
    for letter, length in zip(spec.shape, node.shape, strict=True):
        name, _, more = letter.partition("+")
        known = int(name) if name.isdigit() else lengths.get(name)
        expected = length - int(more or 0) if known is None else known
        lengths[name] = expected
        if length != expected + int(more or 0):
            yield f"{node.name} has shape {node.shape}; expected {letter} = {expected}{_plus(more)}"
    chunks = schema.hdf5_chunks(spec, node.shape, node.dtype.itemsize)
    filters = (chunks is not None, spec.layout == "labels" and chunks is not None)
    if (node.fletcher32, node.shuffle) != filters or (node.chunks is None) != (chunks is None):
        yield f"{node.name} is not stored with the filters of {spec.layout}"


def _plus(more: str) -> str:
    return f" + {more}" if more else ""


# ---- bytes --------------------------------------------------------------------------------------


def _bytes(dataset: Dataset) -> Iterator[str]:
    """Arrays: every stored byte, against its checksum."""
    for spec, path in _stored_arrays(dataset):
        node = dataset.h5[path]
        try:
            if node.chunks is not None and not _all_chunks_stored(node):
                yield f"{path} lacks chunks, or has some without a checksum"
            node[:1], node[-1:]  # by HDF5; the rest is read directly where that can be
            start = 0
            for block in RowReader(node).chunks():
                if problem := _wrong_values(spec, block, start):
                    yield f"{path} {problem}"
                    break
                start += len(block)
        except (OSError, RuntimeError, ValueError) as error:
            yield f"{path} is damaged: {error}"


def _all_chunks_stored(node: Any) -> bool:
    """Say whether every chunk is there, once, with all filters; HDF5 reads a missing one as 0."""
    found: set[tuple[int, ...]] = set()
    masks: list[int] = []

    def see(chunk: Any) -> None:
        found.add(tuple(chunk.chunk_offset))
        masks.append(chunk.filter_mask)

    node.id.chunk_iter(see)
    lengths = zip(node.shape, node.chunks, strict=True)
    expected = prod(ceil(length / chunk) for length, chunk in lengths)
    inside = all(bool((np.array(offset) < node.shape).all()) for offset in found)
    return len(found) == len(masks) == expected and not any(masks) and inside


def _wrong_values(spec: schema.Array, block: NDArray[Any], start: int) -> str:
    """Return what is wrong with rows `start` and later of an array of float16; "" for nothing."""
    if spec.layout == "features":
        finite = int(_sizes(block).max(initial=0)) < _INFINITY
        return "" if finite else "holds values that are not finite"
    if spec.path != "/frames/motion" or block.shape[1] != len(COLUMNS):
        return ""
    sizes, change = _sizes(block), block[:, COLUMNS.index("change")]
    unknown = sizes.min(axis=1) > _INFINITY
    wrong = ~unknown & (sizes.max(axis=1) >= _INFINITY)
    wrong |= (change < 0) | (change > MAX_CHANGE)
    if start == 0:
        wrong[0] |= not unknown[0]
    if not bool(wrong.any()):
        return ""
    return (
        f"of frame {start + int(np.argmax(wrong))} is none: a row is finite, with a change of 0 to"
        f" {MAX_CHANGE}, or NaN as a whole, as the first is"
    )


def _sizes(block: NDArray[np.float16]) -> NDArray[np.uint16]:
    """Return the bits of float16 without their signs, which ascend with the size; NaN is last."""
    return block.view(np.uint16) & np.uint16(0x7FFF)


def text_digest(node: Any) -> str:
    """Return the sha256 hex digest of all text in `node`, which HDF5 itself does not protect.

    Taken of the JSON list (no blanks, ASCII only) of [path, attribute, value], ordered by path and
    attribute, and of [path, "", values] for arrays of strings. `node` is a feature array, or the
    whole file, which leaves /features out; text_digest itself is left out.
    """
    entries: list[tuple[str, str, Any]] = []
    nodes = [node]
    if isinstance(node, h5py.Group):
        node.visititems(lambda _, found: nodes.append(found))
    for found in nodes:
        if found is not node and found.name.startswith("/features/"):
            continue
        for name in found.attrs:
            if name != "text_digest":
                entries.append((found.name, name, _plain(found.attrs[name])))
        if isinstance(found, h5py.Dataset) and found.dtype.kind == "O":
            entries.append((found.name, "", _plain(found.asstr()[...])))
    entries.sort(key=lambda entry: entry[:2])
    return hashlib.sha256(json.dumps(entries, separators=(",", ":")).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, h5py.Empty):
        return []
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return plain.decode("utf-8", "backslashreplace") if isinstance(plain, bytes) else plain


def _text(dataset: Dataset) -> Iterator[str]:
    """Text: attributes and strings, against their digests."""
    nodes = [dataset.h5, *(dataset.features(key) for key in dataset.feature_keys)]
    for node in nodes:
        if text_digest(node) != node.attrs["text_digest"]:
            yield f"{node.name}: the text is not the one that was written (text_digest differs)"


# ---- meaning ------------------------------------------------------------------------------------


def _frames(dataset: Dataset) -> Iterator[str]:
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


def _inputs(dataset: Dataset) -> Iterator[str]:
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


def _sync(dataset: Dataset) -> Iterator[str]:
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
    acts = actions.build(dataset.timestamps_us, stored_events(dataset), alignment)
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
    yield from _report(dataset, alignment, acts)
    for path, names in (
        ("masks", acts.mask_names),
        ("keys", acts.key_names),
        ("buttons", acts.button_names),
        ("axes", acts.axis_names),
    ):
        if dataset.names(f"/actions/{path}") != names:
            yield f"/actions/{path}: names do not follow from /inputs/codes"


def _report(dataset: Dataset, alignment: Alignment, acts: Actions) -> Iterator[str]:
    """Alignment report: what it says, against the arrays."""
    stored = json.loads(dataset.h5["/sync"].attrs["report"])
    if stored == {}:  # frames given one by one
        return
    known = stored if isinstance(stored, dict) else {}
    # These two are measured against what is not in the file, or is measured anew by nobody.
    measured = {name: known.get(name) for name in ("clock", "lag")}
    report = alignment_report(
        dataset.timestamps_us, dataset.flags, stored_events(dataset), alignment, acts, **measured
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
