from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from playmill.errors import DatasetError
from playmill.storage import DataStorage
from playmill.torch_dataset import WindowDataset
from tests.unit.dataset_samples import (
    ZERO_US,
    make_content,
    make_events,
    make_features,
    make_images,
    make_matrix,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, keys in enumerate((["w", "a"], ["w", "space"])):
        events = make_events(range(ZERO_US, ZERO_US + 3_000_000, 9_001), keys=keys)
        content = make_content(100, session_id=f"s-{place}", events=events, video=f"v-{place}")
        DataStorage(tmp_path).write(
            content, features=[make_features(100, seed=place)], images=make_images(100)
        )
    return tmp_path


def test_items_are_windows_of_tensors(folder: Path) -> None:
    windows = WindowDataset(folder, 16, stride=8, fields=("features", "keys", "images", "pts"))
    assert len(windows) == 22
    item = windows[11 + 3]
    assert item["features"].dtype == torch.float16
    np.testing.assert_array_equal(item["features"].numpy(), make_matrix(100, seed=1)[24:40])
    assert item["keys"].shape == (16, 3)
    assert item["images"].shape == (16, 6, 8, 3)
    assert item["pts"].dtype == torch.int64
    with pytest.raises(IndexError, match="22"):
        windows[22]


def test_counts_come_as_int32(folder: Path) -> None:
    windows = WindowDataset(folder / "session_s-0" / "data.h5", 50, fields=["key_presses"])
    assert windows[0]["key_presses"].dtype == torch.int32


def test_windows_keep_off_invalid_frames(folder: Path) -> None:
    for item in WindowDataset(folder, 10, valid_only=True):
        assert bool((item["valid"] == 1).all())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_data_loader_with_workers_gives_every_window_once(folder: Path, method: str) -> None:
    windows = WindowDataset(folder, 16, stride=8, fields=("features", "keys"))
    windows[0]
    loader = DataLoader(
        windows,
        batch_size=4,
        num_workers=2,
        multiprocessing_context=multiprocessing.get_context(method),
    )
    batches = list(loader)
    features = torch.cat([batch["features"] for batch in batches])
    expected = torch.stack([windows[index]["features"] for index in range(len(windows))])
    assert torch.equal(features, expected)
    assert batches[0]["keys"].shape == (4, 16, 3)


def test_a_folder_without_datasets_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no session_"):
        WindowDataset(tmp_path, 16)
