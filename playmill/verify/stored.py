"""What a dataset file holds, byte for byte: checksums, digests, and values that cannot be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from math import ceil, prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from playmill import schema
from playmill.dataset import Dataset
from playmill.decoding.motion import COLUMNS, MAX_CHANGE
from playmill.reading.row_reader import RowReader
from playmill.verify.form import stored_arrays

_INFINITY = 0x7C00
"""The bits of an infinite float16."""
_NEGATIVE_INFINITY = 0xFC00


def stored_bytes(dataset: Dataset) -> Iterator[str]:
    """Arrays: every stored byte, against its checksum."""
    for spec, path in stored_arrays(dataset):
        node = dataset.h5[path]
        try:
            if node.chunks is not None and not _all_chunks_stored(node):
                yield f"{path} lacks chunks, or has some without a checksum"
            node[:1], node[-1:]  # by HDF5; the rest is read directly where that can be
            if problem := _wrong_rows(spec, RowReader(node)):
                yield f"{path} {problem}"
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


def _wrong_rows(spec: schema.Array, reader: RowReader) -> str:
    """Read every row; return what is wrong with the first ones that are; "" for nothing."""
    start = 0
    for block in reader.chunks():
        if problem := _wrong_values(spec, block, start):
            return problem
        start += len(block)
    return ""


def _wrong_values(spec: schema.Array, block: NDArray[Any], start: int) -> str:
    """Return what is wrong with rows `start` and later of an array of float16; "" for nothing."""
    if spec.layout == "features":
        return "" if _is_finite(block) else "holds values that are not finite"
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


def _is_finite(block: NDArray[np.float16]) -> bool:
    # Without a copy, which `_sizes` makes. As int16, the bits of what is negative are below all
    # others and do not count; as uint16, they are above all others and alone count.
    most, least = block.view(np.int16).max(initial=0), block.view(np.uint16).max(initial=0)
    return int(most) < _INFINITY and int(least) < _NEGATIVE_INFINITY


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


def stored_text(dataset: Dataset) -> Iterator[str]:
    """Text: attributes and strings, against their digests."""
    nodes = [dataset.h5, *(dataset.features(key) for key in dataset.feature_keys)]
    for node in nodes:
        if text_digest(node) != node.attrs["text_digest"]:
            yield f"{node.name}: the text is not the one that was written (text_digest differs)"
