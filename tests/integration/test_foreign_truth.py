"""Recordings of other people's recorders become the datasets that their truth describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playmill import pipeline
from playmill.config import PipelineConfig
from playmill.dataset import Dataset, open_dataset
from playmill.errors import UsageError
from playmill.verify import verify
from tests.conftest import SHARED

VPT = SHARED / "recordings" / "vpt"
pytestmark = pytest.mark.needs_shared


def vpt_video() -> Path:
    (video,) = VPT.glob("*.mp4")
    return video


@pytest.fixture(scope="module")
def truth() -> list[dict[str, Any]]:
    """What happened on every frame of the recording."""
    return [json.loads(line) for line in (VPT / "groundtruth.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its dataset."""
    config = PipelineConfig(encoder="mean_pixel")
    return pipeline.run(vpt_video(), tmp_path_factory.mktemp("datasets"), config)


@pytest.fixture(scope="module")
def dataset(path: Path) -> Dataset:
    """Its dataset, opened."""
    return open_dataset(path)


def held(dataset: Dataset, array: str, names: tuple[str, ...]) -> list[list[str]]:
    rows = dataset.array(array)
    return [[name for name, down in zip(names, row, strict=True) if down] for row in rows]


def test_held_keys_and_buttons_are_those_of_the_truth(dataset: Dataset, truth: Any) -> None:
    assert held(dataset, "/actions/keys", dataset.key_names) == [frame["keys"] for frame in truth]
    buttons = held(dataset, "/actions/buttons", dataset.button_names)
    assert buttons == [[str(button) for button in frame["buttons"]] for frame in truth]
    assert any(buttons)


def test_moves_are_those_of_the_truth(dataset: Dataset, truth: Any) -> None:
    moves = dataset.array("/actions/mouse")
    assert moves.tolist() == [[frame["dx"], frame["dy"]] for frame in truth]
    degrees = [frame["camera_deg"] for frame in truth]
    np.testing.assert_allclose(moves[:, ::-1] * 0.15, degrees, atol=1e-4)


def test_open_guis_are_those_of_the_truth(dataset: Dataset, truth: Any) -> None:
    gui = dataset.array("/actions/masks")[:, dataset.names("/actions/masks").index("gui")]
    assert gui.astype(bool).tolist() == [frame["gui"] for frame in truth]


def test_slots_and_turns_of_the_wheel_are_those_of_the_truth(dataset: Dataset, truth: Any) -> None:
    codes = list(dataset.array("/inputs/codes").astype(str))
    mine = np.flatnonzero(dataset.array("/inputs/code") == codes.index("hotbar"))
    frames = dataset.array("/sync/frame")[mine]
    values = dataset.array("/inputs/value")[mine]
    slots = values[np.searchsorted(frames, np.arange(len(truth)), side="right") - 1, 0]
    assert slots.tolist() == [frame["hotbar"] for frame in truth]
    turned = frames[values[:, 1] == 1].tolist()
    assert turned == [frame["frame"] for frame in truth if frame["wheel"]]
    assert not dataset.array("/actions/scroll").any()


def test_every_line_belongs_to_its_frame_and_every_frame_is_valid(
    dataset: Dataset, truth: Any
) -> None:
    codes = list(dataset.array("/inputs/codes").astype(str))
    ticks = dataset.array("/inputs/code") == codes.index("tick")
    assert dataset.array("/sync/frame")[ticks].tolist() == [frame["line"] for frame in truth]
    assert (dataset.array("/sync/frame") >= 0).all()
    assert dataset.array("/actions/valid").all()


def test_the_dataset_keeps_every_promise(path: Path) -> None:
    assert verify(path) == []


def test_another_policy_makes_no_sense(tmp_path: Path) -> None:
    config = PipelineConfig(encoder="mean_pixel", policy="following")
    with pytest.raises(UsageError, match="'following' makes no sense"):
        pipeline.run(vpt_video(), tmp_path, config)
