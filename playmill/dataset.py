"""Read datasets, for training: whole arrays, windows of frames, many sessions as one.

Needs numpy and h5py alone. A `Dataset` is a path until it is read: it can be pickled, forked and
spawned, and every process opens a handle of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from playmill import schema
from playmill.errors import DatasetError
from playmill.faults import NO_PERMISSION
from playmill.inputs.events import DEVICES, KINDS
from playmill.reading.row_reader import RowReader

FIELDS = ("features", "timestamp_us", "keys", "buttons", "mouse", "scroll", "axes", "valid")
"""What a window holds unless told otherwise."""
CACHE_BYTES = 1 << 20
"""HDF5 chunk cache of each array, kept as long as the array is open; a window of 64 frames of 1280
float16 touches 320 KiB."""
CACHE_SLOTS = 1009

Window = dict[str, NDArray[Any]]
"""Arrays by field; axis 0 is the frames of the window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One input event, with names in place of numbers."""

    timestamp_us: int
    """On the recording's clock, as logged."""
    device: str
    """One of DEVICES."""
    kind: str
    """One of KINDS."""
    code: str | None
    """The log's name of the key, button or axis; None where there is none."""
    value: tuple[float, float]
    """dx, dy | x, y | scroll x, y | axis value, 0 | 0, 0."""
    raw: bytes
    """The event as it was logged."""


class Dataset:
    """One published session. `len()` is its number of frames.

    Label arrays are read whole when first used and kept; features and pictures are read from the
    file by what is sliced.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._dataset_key = ""
        self._begin(Path(path))
        self._dataset_key = _attr(self.path, self.h5, "dataset_key")

    def _begin(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._pid = -1
        self._nodes: dict[str, Any] = {}
        self._readers: dict[str, RowReader] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}, {len(self)} frames)"

    def __len__(self) -> int:
        return self._num_frames

    @cached_property
    def _num_frames(self) -> int:
        return int(self._node("/frames/timestamp_us").shape[0])

    # ---- the handle -----------------------------------------------------------------------------

    @property
    def h5(self) -> h5py.File:
        """The open file, a handle of this process; all of h5py is there."""
        if self._file is None or self._pid != os.getpid():
            file = _open(self.path)
            _check_format(self.path, file)
            if self._dataset_key and file.attrs["dataset_key"] != self._dataset_key:
                raise DatasetError(str(self.path), "was replaced while in use; open it anew")
            self._begin(self.path)
            self._file, self._pid = file, os.getpid()
        return self._file

    def _node(self, path: str) -> Any:
        file = self.h5
        node = self._nodes.get(path)
        if node is None:
            if path not in file:
                raise DatasetError(str(self.path), f"{path} is missing")
            node = self._nodes[path] = file[path]
        return node

    @property
    def is_open(self) -> bool:
        """Whether this process has a handle."""
        return self._file is not None and self._pid == os.getpid()

    def close(self) -> None:
        """Close the handle and forget the arrays; the next reading opens the file again."""
        if self._file is not None and self.is_open:
            self._file.close()
        self._begin(self.path)

    def __enter__(self) -> Dataset:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> tuple[Path, str]:
        return self.path, self._dataset_key

    def __setstate__(self, state: tuple[Path, str]) -> None:
        path, self._dataset_key = state
        self._begin(path)

    # ---- what the file says of itself -----------------------------------------------------------

    @cached_property
    def session_id(self) -> str:
        """The recording's own name for the session."""
        return _attr(self.path, self.h5, "session_id")

    @property
    def dataset_key(self) -> str:
        """Digest of all that decides the content."""
        return self._dataset_key

    @cached_property
    def clock(self) -> str:
        """ "unix_us", or "stream" where the wall clock is unknown."""
        return _attr(self.path, self.h5, "clock")

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """session.json as read."""
        return dict(self._json("metadata"))

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Sources, versions and configuration."""
        return dict(self._json("provenance"))

    @cached_property
    def warnings(self) -> list[str]:
        """What to know before use."""
        return list(self._json("warnings"))

    @cached_property
    def report(self) -> dict[str, Any]:
        """How good the alignment is; docs/time-and-sync.md explains it."""
        return dict(json.loads(self._node("/sync").attrs["report"]))

    @cached_property
    def time_base(self) -> Fraction:
        """Seconds per tick of `pts`."""
        return Fraction(self._node("/frames/pts").attrs["time_base"])

    @cached_property
    def pts_zero_us(self) -> int:
        """Clock time of pts 0."""
        return int(self._node("/frames/pts").attrs["pts_zero_us"])

    @cached_property
    def feature_keys(self) -> tuple[str, ...]:
        """Keys of the encoders whose features are in the file, sorted."""
        return tuple(sorted(self.h5["/features"]))

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """Columns of `keys`, `keys_any`, `key_presses`, `key_releases`."""
        return self.names("/actions/keys")

    @cached_property
    def w3c_codes(self) -> tuple[str, ...]:
        """KeyboardEvent.code of each of `key_names`, "" where unknown."""
        return tuple(str(code) for code in self._node("/actions/keys").attrs["w3c_codes"])

    @cached_property
    def button_names(self) -> tuple[str, ...]:
        """Columns of `buttons`, `buttons_any`, `button_presses`, `button_releases`."""
        return self.names("/actions/buttons")

    @cached_property
    def mask_names(self) -> tuple[str, ...]:
        """Columns of `masks`."""
        return self.names("/actions/masks")

    @cached_property
    def axis_names(self) -> tuple[str, ...]:
        """Columns of `axes`."""
        return self.names("/actions/axes")

    def names(self, path: str) -> tuple[str, ...]:
        """Return the attribute `names` of the array `path`."""
        return tuple(str(name) for name in self._node(path).attrs["names"])

    def _json(self, name: str) -> Any:
        try:
            return json.loads(_attr(self.path, self.h5, name))
        except ValueError as error:
            raise DatasetError(str(self.path), f"attribute {name} is not JSON: {error}") from error

    # ---- arrays ---------------------------------------------------------------------------------

    @property
    def timestamps_us(self) -> NDArray[np.int64]:
        """(N,) time of each frame on the recording's clock, strictly increasing."""
        return self.array("/frames/timestamp_us")

    @property
    def pts(self) -> NDArray[np.int64]:
        """(N,) presentation time of each frame, stream ticks."""
        return self.array("/frames/pts")

    @property
    def flags(self) -> NDArray[np.uint8]:
        """(N,) bits by schema.FRAME_FLAGS."""
        return self.array("/frames/flags")

    @property
    def has_images(self) -> bool:
        """Whether pictures are stored."""
        return "/frames/image" in self.h5

    @property
    def images(self) -> Any:
        """(N, H, W, 3) uint8 h5py array; slice it."""
        return self._node("/frames/image")

    @property
    def motion(self) -> Any:
        """(N, V) float32 h5py array of how the picture moved; None where that is not stored."""
        return self._node("/frames/motion") if "/frames/motion" in self.h5 else None

    def features(self, key: str | None = None) -> Any:
        """Return the (N, D) float16 h5py array of encoder `key`; slice it.

        Raises:
            KeyError: there is no such key, or none was given and there is not exactly one.
        """
        return self._node(self._feature_path(key))

    def _feature_path(self, key: str | None) -> str:
        if key is None and len(self.feature_keys) == 1:
            key = self.feature_keys[0]
        if key is None or key not in self.feature_keys:
            choice = ", ".join(self.feature_keys) or "none"
            raise KeyError(f"features {key!r} of {self.path}; there are: {choice}")
        return f"/features/{key}"

    def actions(self, name: str) -> NDArray[Any]:
        """Return array `name` of /actions whole: (N, columns), or (N,) for "valid"."""
        return self.array(f"/actions/{name}")

    def array(self, path: str) -> NDArray[Any]:
        """Return the array `path` whole and read-only, read once."""
        values = self._arrays.get(path)
        if values is None:
            values = self._arrays[path] = self._read(path, slice(None))
            values.flags.writeable = False
        return values

    def _read(self, path: str, rows: slice) -> NDArray[Any]:
        node = self._node(path)
        try:
            return np.asarray(node[rows])
        except OSError as error:
            raise DatasetError(str(self.path), f"{path} is damaged: {error}") from error

    def _read_rows(self, path: str, rows: slice) -> NDArray[Any]:
        node = self._node(path)
        try:
            reader = self._readers.get(path)
            if reader is None:
                reader = self._readers[path] = RowReader(node)
            return reader.read(rows.start, rows.stop)
        except OSError as error:
            raise DatasetError(str(self.path), f"{path} is damaged: {error}") from error

    def events(self, frame_index: int) -> list[Event]:
        """Return the events of frame `frame_index`, in time order."""
        offsets = self.array("/sync/offsets")
        first, last = offsets[frame_index], offsets[frame_index + 1]
        return [self.event(int(i)) for i in self.array("/sync/events")[first:last]]

    def event(self, event_index: int) -> Event:
        """Return event `event_index` of /inputs."""
        code = int(self.array("/inputs/code")[event_index])
        start, stop = self.array("/inputs/raw_offsets")[event_index : event_index + 2]
        x, y = self.array("/inputs/value")[event_index]
        return Event(
            timestamp_us=int(self.array("/inputs/timestamp_us")[event_index]),
            device=DEVICES[self.array("/inputs/device")[event_index]],
            kind=KINDS[self.array("/inputs/kind")[event_index]],
            code=None if code < 0 else self.array("/inputs/codes")[code].decode(),
            value=(float(x), float(y)),
            raw=self._read("/inputs/raw", slice(int(start), int(stop))).tobytes(),
        )

    # ---- windows --------------------------------------------------------------------------------

    def window(
        self,
        start: int,
        length: int,
        *,
        fields: Sequence[str] = FIELDS,
        feature_key: str | None = None,
    ) -> Window:
        """Return frames start .. start + length of each of `fields`; labels are read-only views.

        Args:
            start: index of the first frame.
            length: number of frames.
            fields: "features", "images", "timestamp_us", "pts", "flags", or arrays of /actions.
            feature_key: which encoder's features; may be left out where there is one.
        Raises:
            IndexError: the window is not wholly inside the session.
            DatasetError: an array is missing or damaged.
        """
        if start < 0 or length < 1 or start + length > len(self):
            raise IndexError(f"frames {start}..{start + length} of {len(self)} in {self.path}")
        rows = slice(start, start + length)
        return {field: self._field(field, rows, feature_key) for field in fields}

    def _field(self, field: str, rows: slice, feature_key: str | None) -> NDArray[Any]:
        if field == "features":
            return self._read_rows(self._feature_path(feature_key), rows)
        if field == "images":
            return self._read_rows("/frames/image", rows)
        group = "/frames/" if field in ("timestamp_us", "pts", "flags") else "/actions/"
        return self.array(group + field)[rows]

    def window_starts(
        self,
        length: int,
        *,
        stride: int | None = None,
        valid_only: bool = False,
        max_gap_us: int | None = None,
    ) -> NDArray[np.int64]:
        """Return the first frame of every window of `length` frames.

        Args:
            length: number of frames.
            stride: frames from one start to the next; None: `length`.
            valid_only: leave out windows with a frame whose `valid` is 0.
            max_gap_us: leave out windows with two neighbours farther apart than this.
        """
        if length < 1 or (stride is not None and stride < 1):
            raise ValueError(f"{length=} and {stride=} must be at least 1")
        starts = np.arange(0, len(self) - length + 1, stride or length, dtype=np.int64)
        if valid_only:
            bad = np.concatenate([[0], np.cumsum(self.actions("valid") == 0)])
            starts = starts[bad[starts + length] == bad[starts]]
        if max_gap_us is not None:
            gaps = np.concatenate([[0, 0], np.cumsum(np.diff(self.timestamps_us) > max_gap_us)])
            starts = starts[gaps[starts + length] == gaps[starts + 1]]
        return starts

    def windows(
        self,
        length: int,
        *,
        stride: int | None = None,
        valid_only: bool = False,
        max_gap_us: int | None = None,
        fields: Sequence[str] = FIELDS,
        feature_key: str | None = None,
    ) -> Iterator[Window]:
        """Yield windows in the order of time; arguments as in `window_starts` and `window`."""
        for start in self.window_starts(
            length, stride=stride, valid_only=valid_only, max_gap_us=max_gap_us
        ):
            yield self.window(int(start), length, fields=fields, feature_key=feature_key)


def open_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Open the dataset file `path`.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it is not HDF5, no Playmill dataset, or of a newer schema version.
    """
    return Dataset(path)


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        if path.exists():
            raise DatasetError(str(path), "is a folder, not a dataset file")
        raise FileNotFoundError(2, "no such dataset", str(path))
    try:
        return h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES, rdcc_nslots=CACHE_SLOTS)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise DatasetError(str(path), NO_PERMISSION) from error
        raise DatasetError(str(path), f"is not a readable HDF5 file: {error}") from error


def _attr(path: Path, file: h5py.File, name: str) -> str:
    try:
        return str(file.attrs[name])
    except (KeyError, OSError, RuntimeError) as error:
        raise DatasetError(str(path), f"attribute {name} cannot be read: {error}") from error


def _check_format(path: Path, file: h5py.File) -> None:
    try:
        found, version = file.attrs.get("format"), file.attrs.get("schema_version", "none")
    except (KeyError, OSError, RuntimeError) as error:
        raise DatasetError(str(path), f"is damaged: {error}") from error
    if found != schema.FORMAT:
        raise DatasetError(str(path), f"is no Playmill dataset: attribute format is {found!r}")
    if not isinstance(version, np.integer) or version > schema.SCHEMA_VERSION:
        raise DatasetError(
            str(path),
            f"has schema version {version}; this Playmill reads up to {schema.SCHEMA_VERSION}."
            " Install a newer one",
        )
