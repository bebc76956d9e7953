"""The form of a dataset file: which groups, arrays and attributes there are, and how stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from playmill import schema
from playmill.dataset import Dataset


def attributes(dataset: Dataset) -> Iterator[str]:
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


def stored_arrays(dataset: Dataset) -> Iterator[tuple[schema.Array, str]]:
    """Yield every array that must be there, or is there, with its path."""
    for spec in schema.ARRAYS:
        if spec.path == "/features/<key>":
            for key in dataset.feature_keys:
                yield spec, f"/features/{key}"
        elif not spec.optional or spec.path in dataset.h5:
            yield spec, spec.path


def arrays(dataset: Dataset) -> Iterator[str]:
    """Arrays: their types, shapes, filters and attributes."""
    lengths: dict[str, int] = {}
    known = set(schema.GROUPS)
    for spec, path in stored_arrays(dataset):
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
