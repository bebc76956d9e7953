"""Write a dataset's arrays and attributes as schema.py says. Knows no file names.

The same content gives the same bytes: no times are stored, and the order of writing is fixed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from playmill import schema
from playmill.decoding.motion import COLUMNS
from playmill.errors import DatasetError
from playmill.inputs.events import DEVICES, KINDS, MASKS
from playmill.publishing.chunk_writer import ChunkWriter
from playmill.publishing.content import DatasetContent, FeatureBlocks, ImageBlocks
from playmill.publishing.publication import Spool
from playmill.verify import text_digest

LIBVER = ("v108", "v110")
"""HDF5 1.8 can read the file; attributes may be longer than 64 KiB."""
CACHE_BYTES = 1 << 20
"""HDF5 chunk cache of an array while it is written."""


def _text(value: str) -> str:
    """Escape what an HDF5 string cannot hold: NUL and lone surrogates."""
    return value.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()


def _texts(values: Sequence[str]) -> NDArray[np.object_]:
    return np.array([_text(value) for value in values], dtype=object)


def _set_attrs(node: Any, specs: Sequence[schema.Attr], values: Mapping[str, Any]) -> None:
    for spec in specs:
        if spec.name not in values:
            continue
        value = values[spec.name]
        if spec.type == "utf-8 list":
            node.attrs.create(spec.name, _texts(value), dtype=h5py.string_dtype())
        elif spec.type in ("utf-8", "JSON"):
            node.attrs.create(spec.name, _text(value), dtype=h5py.string_dtype())
        else:
            node.attrs.create(spec.name, value, dtype=np.dtype(spec.type))


def _json(value: object, *, sort_keys: bool) -> str:
    return json.dumps(value, sort_keys=sort_keys)


def _create(file: h5py.File, spec: schema.Array, path: str, shape: tuple[int, ...]) -> Any:
    """Create the array `path` of `shape`, empty, with the layout of `spec`."""
    dtype = h5py.string_dtype() if spec.dtype == "utf-8" else np.dtype(spec.dtype)
    chunks = schema.hdf5_chunks(spec, shape, dtype.itemsize)
    if chunks is None:
        return file.create_dataset(path, shape=shape, dtype=dtype)
    packed = spec.layout == "labels"
    return file.create_dataset(
        path,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        fletcher32=True,
        shuffle=packed,
        compression="gzip" if packed else None,
        compression_opts=schema.GZIP_LEVEL if packed else None,
    )


def _arrays(content: DatasetContent) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return every array outside /features and /frames/image: path -> (values, attributes)."""
    events, rejected, actions = content.events, content.events.rejected, content.actions
    alignment = content.alignment
    keys = {
        "names": actions.key_names,
        "w3c_codes": actions.w3c_codes,
        "meanings": _meanings(content, actions.key_names),
    }
    buttons = {
        "names": actions.button_names,
        "meanings": _meanings(content, actions.button_names),
    }
    time_base = f"{content.time_base.numerator}/{content.time_base.denominator}"
    clock = {"time_base": time_base, "pts_zero_us": content.pts_zero_us}
    mask_names = [MASKS.index(mask.name) for mask in events.masks]
    mask_spans = [(mask.start_us, mask.stop_us) for mask in events.masks]
    arrays: dict[str, tuple[Any, dict[str, Any]]] = {
        "/frames/timestamp_us": (content.timestamp_us, {}),
        "/frames/pts": (content.pts, clock),
        "/frames/flags": (content.flags, {"names": schema.FRAME_FLAGS}),
        "/inputs/timestamp_us": (events.timestamp_us, {}),
        "/inputs/device": (events.device, {"names": DEVICES}),
        "/inputs/kind": (events.kind, {"names": KINDS}),
        "/inputs/code": (events.code, {}),
        "/inputs/codes": (_texts(events.codes), {}),
        "/inputs/code_device": (events.code_device, {}),
        "/inputs/value": (events.value, {}),
        "/inputs/raw": (events.raw, {}),
        "/inputs/raw_offsets": (events.raw_offsets, {}),
        "/inputs/rejected_line": (rejected.line, {"total": rejected.total}),
        "/inputs/rejected_reason": (_texts(rejected.reason), {}),
        "/inputs/rejected_raw": (rejected.raw, {}),
        "/inputs/rejected_raw_offsets": (rejected.raw_offsets, {}),
        "/inputs/mask": (np.array(mask_names, np.uint8), {"names": MASKS}),
        "/inputs/mask_span_us": (np.array(mask_spans, np.int64).reshape(-1, 2), {}),
        "/sync/frame": (alignment.frame, {}),
        "/sync/offsets": (alignment.offsets, {}),
        "/sync/events": (alignment.events, {}),
        "/actions/mouse": (actions.mouse, {"unit": actions.mouse_unit}),
        "/actions/scroll": (actions.scroll, {}),
        "/actions/axes": (actions.axes, {"names": actions.axis_names}),
        "/actions/masks": (actions.masks, {"names": actions.mask_names}),
        "/actions/span_us": (actions.span_us, {}),
        "/actions/valid": (actions.valid, {}),
    }
    if content.motion is not None:
        arrays["/frames/motion"] = (content.motion, {"names": COLUMNS})
    for name in ("keys", "keys_any", "key_presses", "key_releases"):
        arrays[f"/actions/{name}"] = (getattr(actions, name), keys)
    for name in ("buttons", "buttons_any", "button_presses", "button_releases"):
        arrays[f"/actions/{name}"] = (getattr(actions, name), buttons)
    return arrays


def _meanings(content: DatasetContent, names: Sequence[str]) -> list[str]:
    """Return what each input does in the game, "" where nobody says it."""
    # Where a mouse and a gamepad share a button's name, their columns say the device before it.
    plain = (name.partition(":")[2] for name in names)
    pairs = zip(names, plain, strict=True)
    return [content.controls.get(name) or content.controls.get(own, "") for name, own in pairs]


def _group_attrs(content: DatasetContent) -> dict[str, dict[str, Any]]:
    alignment, actions = content.alignment, content.actions
    window_us = alignment.window_us
    return {
        "/": {
            "format": schema.FORMAT,
            "schema_version": schema.SCHEMA_VERSION,
            "session_id": content.session_id,
            "dataset_key": content.dataset_key,
            "clock": content.clock,
            "metadata": _json(content.metadata, sort_keys=False),
            "provenance": _json(content.provenance, sort_keys=True),
            "warnings": _json(list(content.warnings), sort_keys=False),
        },
        "/sync": {
            "policy": alignment.policy,
            "window_ms": np.inf if window_us is None else window_us / 1000,
            "latency_ms": alignment.latency_us / 1000,
            "assigned": alignment.assigned,
            "unassigned": alignment.unassigned,
            "duplicates": content.events.duplicates,
            "auto_repeats": actions.auto_repeats,
            "orphan_releases": actions.orphan_releases,
            "report": _json(content.report, sort_keys=True),
        },
    }


def write_labels(file: h5py.File, content: DatasetContent) -> None:
    """Write everything but features and pictures into the empty `file`."""
    attrs = _group_attrs(content)
    for path, specs in schema.GROUPS.items():
        group = file if path == "/" else file.create_group(path)
        _set_attrs(group, specs, attrs.get(path, {}))
    arrays = _arrays(content)
    for spec in schema.ARRAYS:
        if spec.path not in arrays:
            continue
        values, values_attrs = arrays[spec.path]
        if values.dtype != (object if spec.dtype == "utf-8" else spec.dtype):
            raise DatasetError(content.session_id, f"{spec.path} is {values.dtype}")
        node = _create(file, spec, spec.path, values.shape)
        if spec.layout == "signals":
            _write_rows(node, [values], session_id=content.session_id)
        elif values.size:
            node[...] = values
        _set_attrs(node, spec.attrs, values_attrs)


def _write_rows(node: Any, blocks: Iterable[NDArray[Any]], *, session_id: str) -> None:
    """Fill the array `node` with `blocks`, which must be exactly its rows."""
    filled = 0
    name, shape, dtype = node.name, node.shape, node.dtype  # which h5py asks HDF5 for, every time
    chunks = ChunkWriter(node)
    for block in blocks:
        if block.shape[1:] != shape[1:] or block.dtype != dtype:
            found = f"a block of shape {block.shape} {block.dtype}"
            raise DatasetError(session_id, f"{name} {shape} {dtype}: found {found}")
        if filled + len(block) <= shape[0]:
            chunks.append(block)
        filled += len(block)
    if filled != shape[0]:
        raise DatasetError(session_id, f"{name}: found {filled} rows, expected {shape[0]}")
    chunks.close()


def write_features(file: h5py.File, features: FeatureBlocks, *, session_id: str) -> None:
    """Add the features of one encoder, after the labels.

    Raises:
        DatasetError: the blocks are not one row a frame, of the length that was said.
    """
    spec = schema.ARRAY["/features/<key>"]
    shape = (len(file["/frames/pts"]), features.dim)
    node = _create(file, spec, f"/features/{features.key}", shape)
    _write_rows(node, features.blocks, session_id=session_id)
    _set_attrs(node, spec.attrs, features.attrs)
    node.attrs.create("text_digest", text_digest(node), dtype=h5py.string_dtype())


def write_images(file: h5py.File, images: ImageBlocks, *, session_id: str) -> None:
    """Add the pictures, after the labels. Raises as `write_features` does."""
    spec = schema.ARRAY["/frames/image"]
    node = _create(file, spec, spec.path, (len(file["/frames/pts"]), *images.size, 3))
    _write_rows(node, images.blocks, session_id=session_id)


def seal(file: h5py.File) -> None:
    """Store the digest of all text outside /features; the labels do not change after this."""
    file.attrs.create("text_digest", text_digest(file), dtype=h5py.string_dtype())


def open_spool(spool: Spool, mode: str) -> h5py.File:
    """Open HDF5 on `spool`, for writing ("w") or for adding features ("r+")."""
    return h5py.File(spool, mode, libver=LIBVER, rdcc_nbytes=CACHE_BYTES)
