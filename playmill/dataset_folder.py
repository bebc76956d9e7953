"""Many datasets as one, for training: windows that never cross a session. Needs numpy and h5py.

Sessions differ in the keys, buttons and axes that their players used. Here every session has the
columns of all, so that windows of different sessions fit into one batch. Recorders differ in what
they call a key: where sessions of several are read together, columns go by KeyboardEvent.code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from playmill.dataset import FIELDS, Dataset, Window, open_dataset
from playmill.errors import DatasetError
from playmill.schema import FILE_NAME

MAX_OPEN = 64
"""Sessions that keep their file open and their labels in memory, in each process."""
_KEYS = ("keys", "keys_any", "key_presses", "key_releases")
_BUTTONS = ("buttons", "buttons_any", "button_presses", "button_releases")
_AXES = ("axes",)
_COUNTS = ("key_presses", "key_releases", "button_presses", "button_releases")

Names = tuple[str, ...]


class Datasets:
    """Several sessions, numbered from 0 in the order given. `len()` is their number.

    Args:
        paths: dataset files, at least one.
        w3c_keys: name the columns of keys by KeyboardEvent.code where it is known ("KeyW" for "w",
            "key.keyboard.w" and "87"), so that one key has one column whatever recorded it. Keys of
            a session that share a code share the column: down if one is, counts are added.
        max_open: how many keep their file open and their labels in memory, in each process.
    Raises:
        FileNotFoundError, DatasetError: as `open_dataset`.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        w3c_keys: bool = False,
        max_open: int = MAX_OPEN,
    ) -> None:
        if not paths:
            raise ValueError("no datasets: give at least one path")
        self.paths = tuple(Path(path) for path in paths)
        self._w3c_keys = w3c_keys
        self._max_open = max_open
        self._recent: dict[int, None] = {}
        self._datasets: list[Dataset] = []
        lengths: list[int] = []
        columns: list[tuple[Names, Names, Names]] = []
        for path in self.paths:
            with open_dataset(path) as dataset:
                self._datasets.append(dataset)
                lengths.append(len(dataset))
                keys = self._key_names(dataset)
                columns.append((keys, dataset.button_names, dataset.axis_names))
        self.ep_len: NDArray[np.int64] = np.array(lengths, np.int64)
        """(E,) frames of each session."""
        self.ep_offset: NDArray[np.int64] = np.cumsum(self.ep_len) - self.ep_len
        """(E,) frames of all sessions before it."""
        self.key_names = _union([keys for keys, _, _ in columns])
        """Columns of `keys`, `keys_any`, `key_presses`, `key_releases` in windows."""
        self.button_names = _union([buttons for _, buttons, _ in columns])
        """Columns of `buttons`, `buttons_any`, `button_presses`, `button_releases`."""
        self.axis_names = _union([axes for _, _, axes in columns])
        """Columns of `axes`."""

    def _key_names(self, dataset: Dataset) -> Names:
        """Return what the columns of a session's keys are called here; equal ones are one."""
        if not self._w3c_keys:
            return dataset.key_names
        both = zip(dataset.w3c_codes, dataset.key_names, strict=True)
        return tuple(code or name for code, name in both)

    def __repr__(self) -> str:
        return f"Datasets({len(self)} sessions, {self.num_frames} frames)"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, session_index: int) -> Dataset:
        """Return one session; of more than `max_open`, the one longest unused is closed."""
        dataset = self._datasets[session_index]  # an IndexError also ends iteration
        session_index %= len(self)
        self._recent.pop(session_index, None)
        self._recent[session_index] = None
        if len(self._recent) > self._max_open:
            oldest = next(iter(self._recent))
            del self._recent[oldest]
            self._datasets[oldest].close()
        return dataset

    @property
    def num_frames(self) -> int:
        """Frames of all sessions."""
        return int(self.ep_len.sum())

    def window_index(
        self,
        length: int,
        *,
        stride: int | None = None,
        valid_only: bool = False,
        max_gap_us: int | None = None,
    ) -> NDArray[np.int64]:
        """Return (W, 2) int64: session and first frame of every window; none crosses a session.

        Arguments as in `Dataset.window_starts`. Shuffle the rows, and read each with `window`.
        """
        rows = [np.zeros((0, 2), np.int64)]
        for session_index in range(len(self)):
            starts = self[session_index].window_starts(
                length, stride=stride, valid_only=valid_only, max_gap_us=max_gap_us
            )
            rows.append(np.column_stack([np.full(len(starts), session_index), starts]))
        return np.concatenate(rows)

    def window(
        self,
        session_index: int,
        start: int,
        length: int,
        *,
        fields: Sequence[str] = FIELDS,
        feature_key: str | None = None,
    ) -> Window:
        """Return one window, as `Dataset.window` does, with the columns of all sessions."""
        dataset = self[session_index]
        window = dataset.window(start, length, fields=fields, feature_key=feature_key)
        for names, mine, all_names in (
            (_KEYS, self._key_names(dataset), self.key_names),
            (_BUTTONS, dataset.button_names, self.button_names),
            (_AXES, dataset.axis_names, self.axis_names),
        ):
            if mine != all_names:
                columns = [all_names.index(name) for name in mine]
                for field in set(names) & window.keys():
                    window[field] = _spread(field, window[field], columns, len(all_names))
        return window

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
        """Yield the windows of all sessions in order; arguments as in `Dataset.windows`."""
        index = self.window_index(
            length, stride=stride, valid_only=valid_only, max_gap_us=max_gap_us
        )
        for session_index, start in index.tolist():
            yield self.window(session_index, start, length, fields=fields, feature_key=feature_key)

    def close(self) -> None:
        """Close all files; the next reading opens them again."""
        for dataset in self._datasets:
            dataset.close()
        self._recent.clear()


def open_folder(
    folder: str | os.PathLike[str], *, w3c_keys: bool = False, max_open: int = MAX_OPEN
) -> Datasets:
    """Open every dataset in the datasets folder `folder`, in the order of their folders' names.

    Args:
        w3c_keys, max_open: as in `Datasets`.
    Raises:
        DatasetError: there is none, or one of them cannot be read.
    """
    paths = sorted(Path(folder).glob(f"session_*/{FILE_NAME}"))
    if not paths:
        raise DatasetError(os.fspath(folder), f"holds no session_*/{FILE_NAME}")
    return Datasets(paths, w3c_keys=w3c_keys, max_open=max_open)


def _union(columns: Sequence[Names]) -> Names:
    return tuple(sorted({name for names in columns for name in names}))


def _spread(
    field: str, values: NDArray[np.generic], columns: list[int], width: int
) -> NDArray[np.generic]:
    """Return `values` in the columns given, of which several may be one."""
    spread = np.zeros((len(values), width), values.dtype)
    if len(set(columns)) == len(columns):
        spread[:, columns] = values
        return spread
    together = np.add if field in _COUNTS else np.maximum
    for column, its in zip(columns, values.T, strict=True):
        together(spread[:, column], its, out=spread[:, column])
    return spread
