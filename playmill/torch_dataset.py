"""Windows of datasets as a torch Dataset, for a DataLoader with any number of workers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from playmill.dataset import FIELDS
from playmill.dataset_folder import Datasets, open_folder


class WindowDataset(Dataset[dict[str, torch.Tensor]]):
    """Every window of `length` frames of one or many sessions; none crosses a session.

    An item is a dict of tensors by field, axis 0 the frames; counts (uint16) come as int32. All
    items have equal shapes, so that the default collation works. Every process opens its own files.

    Args:
        source: a datasets folder, a dataset file, or several files.
        length: frames of a window.
        stride: frames from one window to the next; None: `length`.
        valid_only: leave out windows with a frame whose `valid` is 0.
        max_gap_us: leave out windows with two neighbours farther apart than this.
        fields: what an item holds: "features", "images", "timestamp_us", "pts", "flags", or
            arrays of /actions.
        feature_key: which encoder's features; may be left out where files have one.
        w3c_keys: columns of keys go by KeyboardEvent.code, for sessions of several recorders; as in
            `dataset_folder.Datasets`.
    Raises:
        FileNotFoundError, DatasetError: as `open_dataset`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        length: int,
        *,
        stride: int | None = None,
        valid_only: bool = False,
        max_gap_us: int | None = None,
        fields: Sequence[str] = FIELDS,
        feature_key: str | None = None,
        w3c_keys: bool = False,
    ) -> None:
        self.datasets = _open(source, w3c_keys=w3c_keys)
        self.length = length
        self.fields = tuple(fields)
        self.feature_key = feature_key
        self.index = self.datasets.window_index(
            length, stride=stride, valid_only=valid_only, max_gap_us=max_gap_us
        )
        """(W, 2) int64: session and first frame of each window."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, window_index: int) -> dict[str, torch.Tensor]:
        session_index, start = self.index[window_index].tolist()
        window = self.datasets.window(
            session_index,
            start,
            self.length,
            fields=self.fields,
            feature_key=self.feature_key,
        )
        return {field: _tensor(values) for field, values in window.items()}


def _open(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, w3c_keys: bool
) -> Datasets:
    if not isinstance(source, (str, os.PathLike)):
        return Datasets(source, w3c_keys=w3c_keys)
    if Path(source).is_dir():
        return open_folder(source, w3c_keys=w3c_keys)
    return Datasets([source], w3c_keys=w3c_keys)


def _tensor(values: np.ndarray) -> torch.Tensor:
    if values.dtype == np.uint16:
        return torch.from_numpy(values.astype(np.int32))
    return torch.from_numpy(values if values.flags.writeable else values.copy())
