"""Datasets against recordings whose truth is known for every frame."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playmill import pipeline
from playmill.config import POLICIES, PipelineConfig
from playmill.dataset import open_dataset
from tests.conftest import SHARED
from tests.integration.support import EXAMPLES

RECORDINGS = [
    pytest.param(EXAMPLES / "doom-640x480", id="doom"),
    pytest.param(
        SHARED / "recordings" / "breakout-320x420",
        id="breakout",
        marks=pytest.mark.needs_shared,
    ),
]
WINDOW_US = 100_000


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def distinct_events(folder: Path) -> list[dict[str, Any]]:
    """Return the log's events in time order, byte-identical lines once."""
    lines = dict.fromkeys((folder / "inputs.jsonl").read_text().splitlines())
    return sorted(map(json.loads, lines), key=lambda event: event["t"])


def frame_of(t: int, frames: list[int], policy: str, window: int) -> int:
    """Return the frame of one event by the policy's own words; -1: none. Looks at every frame."""
    number = len(frames)
    if policy == "following":
        chosen = [
            i for i in range(number) if frames[i] <= t and (i + 1 == number or t < frames[i + 1])
        ]
    elif policy == "preceding":
        chosen = [i for i in range(number) if (i == 0 or frames[i - 1] < t) and t <= frames[i]]
    elif policy == "nearest":
        chosen = [min(range(number), key=lambda i: (abs(t - frames[i]), i))]
    else:
        chosen = [i for i in range(number) if abs(t - frames[i]) <= window]
    return chosen[0] if chosen and abs(t - frames[chosen[0]]) <= window else -1


@pytest.fixture(scope="module", params=RECORDINGS)
def recording(request: pytest.FixtureRequest) -> Path:
    """A recording with its truth beside it."""
    return Path(request.param)


@pytest.fixture(scope="module")
def datasets(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Its dataset by every policy."""
    return {
        policy: pipeline.run(
            recording,
            tmp_path_factory.mktemp(policy),
            PipelineConfig(encoder="mean_pixel", policy=policy, image_size=(80, 80)),
        )
        for policy in POLICIES
    }


def test_frame_times_follow_the_formula_and_the_truth(
    recording: Path, datasets: dict[str, Path]
) -> None:
    truth = read_lines(recording / "groundtruth.jsonl")
    session = json.loads((recording / "session.json").read_text())
    with open_dataset(datasets["following"]) as dataset:
        assert dataset.pts.tolist() == [frame["pts"] for frame in truth]
        num, den = dataset.time_base.numerator, dataset.time_base.denominator
        assert dataset.timestamps_us.tolist() == [
            session["video"]["pts_zero_us"]
            + (2 * frame["pts"] * num * 1_000_000 + den) // (2 * den)
            for frame in truth
        ]
        distance = np.abs(dataset.timestamps_us - np.array([frame["t_us"] for frame in truth]))
        assert distance.max() <= 6


@pytest.mark.parametrize("policy", POLICIES)
def test_every_event_has_the_frame_that_the_rule_says(
    recording: Path, datasets: dict[str, Path], policy: str
) -> None:
    events = distinct_events(recording)
    with open_dataset(datasets[policy]) as dataset:
        frames = dataset.timestamps_us.tolist()
        assert dataset.array("/inputs/timestamp_us").tolist() == [event["t"] for event in events]
        expected = [frame_of(event["t"], frames, policy, WINDOW_US) for event in events]
        assert dataset.array("/sync/frame").tolist() == expected
        offsets, members = dataset.array("/sync/offsets"), dataset.array("/sync/events")
        listed = [
            sorted(members[start:stop].tolist()) for start, stop in itertools.pairwise(offsets)
        ]
        assert listed == [
            [event for event, owner in enumerate(expected) if owner == frame]
            for frame in range(len(frames))
        ]


@pytest.mark.parametrize("policy", POLICIES)
def test_held_keys_and_buttons_are_those_of_the_truth(
    recording: Path, datasets: dict[str, Path], policy: str
) -> None:
    truth = read_lines(recording / "groundtruth.jsonl")
    with open_dataset(datasets[policy]) as dataset:
        for array, names, key in (
            ("/actions/keys", dataset.key_names, "keys"),
            ("/actions/buttons", dataset.button_names, "buttons"),
        ):
            held = dataset.array(array)
            found = [[name for name, down in zip(names, row, strict=True) if down] for row in held]
            assert [sorted(row) for row in found] == [frame[key] for frame in truth]


def test_pictures_are_those_of_the_frames(recording: Path, datasets: dict[str, Path]) -> None:
    truth = read_lines(recording / "groundtruth.jsonl")
    with open_dataset(datasets["following"]) as dataset:
        pictures = dataset.array("/frames/image").astype(float)
    luma = (pictures @ [0.299, 0.587, 0.114]).reshape(-1, 8, 10, 8, 10).mean(axis=(2, 4))
    captured = np.array([list(bytes.fromhex(frame["luma8"])) for frame in truth]).reshape(-1, 8, 8)
    distance = np.abs(luma - captured).mean(axis=(1, 2))
    assert distance.mean() < 1.5
    assert distance.max() < 5
