"""Every array and attribute of a dataset file: name, dtype, shape, unit, meaning.

The machine-readable half of docs/dataset-format.md. Knows no file: `storage` writes what stands
here, `dataset` reads it, `verify` checks it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from playmill.inputs.events import DEVICES, KINDS, MASKS

FORMAT = "playmill"
"""Value of the root attribute `format`."""
SCHEMA_VERSION = 1
"""Value of the root attribute `schema_version`; any change of bytes raises it."""
REPORT_FILE_NAME = "alignment.json"
"""Beside a dataset: its alignment report, once more, for those who read no HDF5."""
FAILED_FOLDER = "failed"
"""In the datasets folder: alignment reports of recordings that missed a gate, and so have no
dataset. They are named after the folder that the dataset would have."""
FILE_NAME = "data.h5"
"""Name of the dataset inside its session's folder."""
CLOCKS = ("unix_us", "log_us", "stream")
"""Values of the root attribute `clock`."""
FRAME_FLAGS = ("damaged", "pts_repaired", "gap_before", "duplicate_picture", "black", "frozen")
"""Name i belongs to bit i (value 1 << i) of /frames/flags."""
FEATURE_KEY = re.compile(r"[A-Za-z0-9._-]+")
"""What a feature key matches as a whole; "." and ".." are no keys (HDF5 path steps)."""
FEATURE_ATTRS = ("encoder", "weights_digest", "preprocessing", "precision", "runtime", "parts_key")
"""Attributes that come with the features of one encoder."""

Layout = Literal["features", "images", "signals", "labels", "text"]
"""features, images: fletcher32 alone, for random access; signals: the same, as gzip takes far
longer than it is worth; labels: gzip, shuffle and fletcher32; text: no filter, as the strings lie
elsewhere in the file."""
AttrType = Literal["utf-8", "utf-8 list", "JSON", "int64", "float64"]

FEATURE_CHUNK_ROWS = 64
LABEL_CHUNK_BYTES = 64 * 1024
GZIP_LEVEL = 4
"""Of labels."""


def frame_flag(name: str) -> int:
    """Return the bit of flag `name` in /frames/flags."""
    return 1 << FRAME_FLAGS.index(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attr:
    """One attribute of an array or group."""

    name: str
    type: AttrType
    meaning: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Array:
    """One stored array."""

    path: str
    """Full path; the features of every encoder share the one entry /features/<key>."""
    dtype: str
    """numpy dtype name, or "utf-8" (variable length)."""
    shape: tuple[str, ...]
    """Letters (equal letters are equal lengths in one file) and fixed numbers."""
    unit: str
    """Physical unit, or "" where there is none."""
    meaning: str
    layout: Layout = "labels"
    optional: bool = False
    attrs: tuple[Attr, ...] = ()


LETTERS = {
    "N": "frames, at least 1",
    "M": "input events",
    "C": "codes: distinct names of keys, buttons and axes in the log",
    "S": "assigned events",
    "B": "bytes of all events as logged",
    "R": "rejected lines that are kept",
    "Q": "bytes of the rejected lines",
    "K": "keys",
    "U": "buttons of mouse and gamepad",
    "A": "gamepad axes",
    "X": "kinds of masks that the log has",
    "Y": "masks: spans of time that the log says something about",
    "D": "length of one feature vector",
    "V": "signals of motion",
    "H": "height of a stored picture",
    "W": "width of a stored picture",
}
"""What the letters in shapes count."""

GROUPS: dict[str, tuple[Attr, ...]] = {
    "/": (
        Attr(name="format", type="utf-8", meaning='always "playmill"'),
        Attr(name="schema_version", type="int64", meaning="version of this format"),
        Attr(name="session_id", type="utf-8", meaning="the recording's own name for the session"),
        Attr(name="dataset_key", type="utf-8", meaning="digest of all that decides the content"),
        Attr(
            name="clock",
            type="utf-8",
            meaning='"unix_us"; "log_us": the log\'s own; "stream": none is known',
        ),
        Attr(name="metadata", type="JSON", meaning="session.json as read; {} without one"),
        Attr(name="provenance", type="JSON", meaning="sources, versions and configuration"),
        Attr(name="warnings", type="JSON", meaning="list of sentences: what to know before use"),
        Attr(name="text_digest", type="utf-8", meaning="sha256 of all text outside /features"),
    ),
    "/frames": (),
    "/features": (),
    "/inputs": (),
    "/sync": (
        Attr(name="policy", type="utf-8", meaning="rule that gave events to frames"),
        Attr(name="window_ms", type="float64", meaning="largest |t' - t[i]|; infinity: none"),
        Attr(name="latency_ms", type="float64", meaning="added to event times before assignment"),
        Attr(name="assigned", type="int64", meaning="events with a frame: S"),
        Attr(name="unassigned", type="int64", meaning="events without one: M - S"),
        Attr(name="duplicates", type="int64", meaning="copies of lines left out by the reader"),
        Attr(name="auto_repeats", type="int64", meaning="presses of what was already down"),
        Attr(name="orphan_releases", type="int64", meaning="releases of what was not down"),
        Attr(
            name="report", type="JSON", meaning="how good the alignment is; docs/time-and-sync.md"
        ),
    ),
    "/actions": (),
}
"""Groups and their attributes, in the order of writing."""


def _names(of: str) -> Attr:
    return Attr(name="names", type="utf-8 list", meaning=of)


_COLUMNS = (_names("column names, sorted"),)
_W3C = Attr(name="w3c_codes", type="utf-8 list", meaning='KeyboardEvent.code, "" where unknown')


_MEANINGS = Attr(name="meanings", type="utf-8 list", meaning='in the game, "" where not given')


def _held(one: str, letter: str) -> tuple[Array, ...]:
    tap, path, nouns = f"/actions/{one}", f"/actions/{one}s", f"{one}s"
    shape, attrs = ("N", letter), (*_COLUMNS, *([_W3C] if one == "key" else []), _MEANINGS)
    return (
        Array(path=path, dtype="uint8", shape=shape, unit="0 or 1", attrs=attrs,
              meaning=f"{nouns} held at t[i], after all events with t' <= t[i]"),
        Array(path=f"{path}_any", dtype="uint8", shape=shape, unit="0 or 1", attrs=attrs,
              meaning=f"{nouns} down at any moment of the frame's span"),
        Array(path=f"{tap}_presses", dtype="uint16", shape=shape, unit="events", attrs=attrs,
              meaning="up -> down within the span; auto-repeat does not count"),
        Array(path=f"{tap}_releases", dtype="uint16", shape=shape, unit="events", attrs=attrs,
              meaning="down -> up within the span; orphan releases do not count"),
    )  # fmt: skip


ARRAYS: tuple[Array, ...] = (
    Array(path="/frames/timestamp_us", dtype="int64", shape=("N",), unit="us",
          meaning="time of each frame on the recording's clock, strictly increasing"),
    Array(path="/frames/pts", dtype="int64", shape=("N",), unit="stream ticks",
          meaning="presentation time of each frame in the video, strictly increasing",
          attrs=(Attr(name="time_base", type="utf-8", meaning='seconds a tick, as "1/90000"'),
                 Attr(name="pts_zero_us", type="int64", meaning="clock time of pts 0"))),
    Array(path="/frames/flags", dtype="uint8", shape=("N",), unit="bits",
          meaning="what is special about each frame; names[i] is bit 1 << i",
          attrs=(_names("names of the bits"),)),
    Array(path="/frames/motion", dtype="float16", shape=("N", "V"), unit="see names", optional=True,
          meaning="how the picture moved against the frame before; NaN: unknown", layout="signals",
          attrs=(_names("dx, dy: fractions of the picture; change: gray"),)),
    Array(path="/frames/image", dtype="uint8", shape=("N", "H", "W", "3"), unit="RGB",
          meaning="the picture, resized", layout="images", optional=True),
    Array(path="/features/<key>", dtype="float16", shape=("N", "D"), unit="", layout="features",
          meaning="feature vector of each frame by one encoder, finite", optional=True,
          attrs=(Attr(name="encoder", type="utf-8", meaning="name of the vision backbone"),
                 Attr(name="weights_digest", type="utf-8", meaning="sha256 of its weights"),
                 Attr(name="preprocessing", type="utf-8", meaning="from picture to model input"),
                 Attr(name="precision", type="utf-8", meaning="arithmetic of the backbone"),
                 Attr(name="runtime", type="utf-8", meaning="what computed it: torch, openvino"),
                 Attr(name="parts_key", type="utf-8", meaning="digest of all that decides them"),
                 Attr(name="text_digest", type="utf-8", meaning="sha256 of these attributes"))),
    Array(path="/inputs/timestamp_us", dtype="int64", shape=("M",), unit="us",
          meaning="time of each event as logged, ascending"),
    Array(path="/inputs/device", dtype="uint8", shape=("M",), unit="index into names",
          meaning="what the event came from", attrs=(_names(", ".join(DEVICES)),)),
    Array(path="/inputs/kind", dtype="uint8", shape=("M",), unit="index into names",
          meaning="what happened", attrs=(_names(", ".join(KINDS)),)),
    Array(path="/inputs/code", dtype="int32", shape=("M",), unit="index into /inputs/codes",
          meaning="which key, button or axis; -1 where there is none"),
    Array(path="/inputs/codes", dtype="utf-8", shape=("C",), unit="", layout="text",
          meaning="names of keys, buttons and axes, the log's own"),
    Array(path="/inputs/code_device", dtype="uint8", shape=("C",), unit="index into device names",
          meaning="device of each code"),
    Array(path="/inputs/value", dtype="float32", shape=("M", "2"), unit="by kind",
          meaning="dx, dy | x, y | scroll x, y | axis value, 0 | state: 1 held or 0 not, 0"
          " | other: the log format's own | 0, 0"),
    Array(path="/inputs/raw", dtype="uint8", shape=("B",), unit="bytes",
          meaning="each event as it was logged, one after the other"),
    Array(path="/inputs/raw_offsets", dtype="int64", shape=("M+1",), unit="bytes",
          meaning="event i was raw[raw_offsets[i]:raw_offsets[i+1]]"),
    Array(path="/inputs/rejected_line", dtype="int64", shape=("R",), unit="lines, from 1",
          meaning="line numbers of lines that are no events",
          attrs=(Attr(name="total", type="int64", meaning="rejected lines, kept or not"),)),
    Array(path="/inputs/rejected_reason", dtype="utf-8", shape=("R",), unit="", layout="text",
          meaning="what is wrong with each"),
    Array(path="/inputs/rejected_raw", dtype="uint8", shape=("Q",), unit="bytes",
          meaning="the first 4 KiB of each, one after the other"),
    Array(path="/inputs/rejected_raw_offsets", dtype="int64", shape=("R+1",), unit="bytes",
          meaning="line i was rejected_raw[rejected_raw_offsets[i]:rejected_raw_offsets[i+1]]"),
    Array(path="/inputs/mask", dtype="uint8", shape=("Y",), unit="index into names",
          meaning="what the log says of a span of time", attrs=(_names(", ".join(MASKS)),)),
    Array(path="/inputs/mask_span_us", dtype="int64", shape=("Y", "2"), unit="us",
          meaning="start, stop of each, half-open"),
    Array(path="/sync/frame", dtype="int64", shape=("M",), unit="index into /frames",
          meaning="the frame of each event; -1 where none"),
    Array(path="/sync/offsets", dtype="int64", shape=("N+1",), unit="index into /sync/events",
          meaning="frame i's events are events[offsets[i]:offsets[i+1]]"),
    Array(path="/sync/events", dtype="int64", shape=("S",), unit="index into /inputs",
          meaning="the assigned events, frame by frame, in time order"),
    *_held("key", "K"),
    *_held("button", "U"),
    Array(path="/actions/mouse", dtype="float32", shape=("N", "2"), unit="attr unit",
          meaning="dx, dy: sums over the span",
          attrs=(Attr(name="unit", type="utf-8", meaning='of mouse moves, as "counts"'),)),
    Array(path="/actions/scroll", dtype="float32", shape=("N", "2"), unit="wheel steps",
          meaning="scroll x, y: sums over the span"),
    Array(path="/actions/axes", dtype="float32", shape=("N", "A"), unit="as logged",
          meaning="last value of each gamepad axis", attrs=_COLUMNS),
    Array(path="/actions/masks", dtype="uint8", shape=("N", "X"), unit="0 or 1",
          meaning="1: some of the frame's time, to the next frame, lies in such a mask",
          attrs=(_names("column names, in the order of /inputs/mask's"),)),
    Array(path="/actions/span_us", dtype="int64", shape=("N", "2"), unit="us",
          meaning="start, stop of the times t' that the policy gives the frame, half-open; the "
                  "least and the greatest int64 are infinite"),
    Array(path="/actions/valid", dtype="uint8", shape=("N",), unit="0 or 1",
          meaning="0: the span is cut by a gap or the end, or held state is unknown"),
)  # fmt: skip
"""Every array, in the order of writing."""

ARRAY = {array.path: array for array in ARRAYS}
"""`ARRAYS` by path."""


def is_feature_key(key: str) -> bool:
    """Say whether `key` may name an array under /features."""
    return FEATURE_KEY.fullmatch(key) is not None and key.strip(".") != ""


def hdf5_chunks(array: Array, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    """Return the HDF5 chunk shape of `array` stored in `shape`; None: contiguous, no filters.

    Feature chunks are about a training window long, a picture is a chunk, chunks of signals and
    labels hold about 64 KiB. Arrays without elements, and text, have neither chunks nor filters.
    """
    if 0 in shape or array.layout == "text":
        return None
    if array.layout == "images":
        return (1, *shape[1:])
    row_bytes = itemsize
    for length in shape[1:]:
        row_bytes *= length
    rows = FEATURE_CHUNK_ROWS if array.layout == "features" else LABEL_CHUNK_BYTES // row_bytes
    return (min(shape[0], max(rows, 1)), *shape[1:])
