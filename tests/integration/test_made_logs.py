"""Sessions in other recorders' formats, made for the test, become the datasets they should."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from playmill import pipeline
from playmill.config import PipelineConfig
from playmill.dataset import Dataset, open_dataset
from playmill.testing import make_video
from playmill.verify import verify
from tests.unit.p2p_samples import action, annotation, event, key_event, mouse, vector, write

CONFIG = PipelineConfig(encoder="mean_pixel")
LETTERS = "adsw"


def publish(video: Path, datasets: Path) -> Dataset:
    path = pipeline.run(video, datasets, CONFIG)
    assert verify(path) == []
    return open_dataset(path)


def film(path: Path, count: int, fps: int) -> None:
    make_video(
        path, numbers=range(count), pts=range(count), time_base=Fraction(1, fps), fps=fps, gop=10
    )


def pressed(dataset: Dataset, array: str) -> list[list[str]]:
    rows = dataset.array(array)
    return [[n for n, down in zip(dataset.key_names, row, strict=True) if down] for row in rows]


def random_keys(count: int, seed: int) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    held = rng.random((count, len(LETTERS))) < 0.4
    return [[key for key, down in zip(LETTERS, row, strict=True) if down] for row in held]


def test_labels_of_open_p2p_are_those_of_the_frame_before(tmp_path: Path) -> None:
    keys = random_keys(40, seed=1)
    moves = np.random.default_rng(2).integers(-50, 50, (40, 2)).tolist()
    files = write(
        tmp_path,
        *(
            annotation(action(keys=row, mouse=mouse(delta=tuple(move))))
            for row, move in zip(keys, moves, strict=True)
        ),
    )
    film(files.video, 40, 20)
    with publish(files.video, tmp_path / "datasets") as dataset:
        assert pressed(dataset, "/actions/keys")[:-1] == keys[1:]
        assert dataset.array("/actions/mouse")[:-1].tolist() == moves[1:]
        assert dataset.array("/actions/valid").tolist() == [1] * 39 + [0]


def test_events_of_open_p2p_are_those_of_the_frame_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    # Every picture was taken up to 20 ms late; the video's times are even.
    taken = 700_000 + 50_000 * np.arange(30) + rng.integers(0, 20_000, 30)
    annotations, moves, taps = [annotation(taken_us=int(taken[0]))], [], []
    for index in range(1, 30):
        times = sorted(rng.integers(taken[index - 1], taken[index], 6).tolist())
        tapped = LETTERS[index % 4]
        events = [event(time, 5, vector(index, -1)) for time in times[:4]]
        events += [key_event(times[4], tapped), key_event(times[5], tapped, pressed=False)]
        annotations.append(annotation(taken_us=int(taken[index]), events=events))
        moves.append([4 * index, -4])
        taps.append([tapped])
    files = write(tmp_path, *annotations)
    film(files.video, 30, 20)
    with publish(files.video, tmp_path / "datasets") as dataset:
        assert dataset.array("/actions/mouse")[:-1].tolist() == moves
        assert pressed(dataset, "/actions/key_presses")[:-1] == taps
        assert dataset.clock == "log_us"


def test_segments_of_game_recorder_have_the_inputs_that_the_offset_says(tmp_path: Path) -> None:
    keys, offset = random_keys(60, seed=4), 3
    lines: list[dict[str, Any]] = []
    for picture, (before, now) in enumerate(zip([[], *keys], keys, strict=False)):
        events = [
            {"type": "key", "action": action, "vk": ord(key.upper()), "key": key.upper()}
            for action, changed in (
                ("down", set(now) - set(before)),
                ("up", set(before) - set(now)),
            )
            for key in sorted(changed)
        ]
        lines.append({"frame": picture + offset, "events": events})
    session = tmp_path / "session_20260421_022902"
    session.mkdir()
    meta = {"session_id": session.name, "fps": 30, "event_video_sync_offset": offset}
    (session / "meta.json").write_text(json.dumps(meta | {"foreground_window": "mail"}))
    stamps = [{"frame": i, "t_capture_unix_ms": 1.7e12 + i * 1000 / 30} for i in range(60)]
    (session / "frame_timestamps.jsonl").write_text("\n".join(map(json.dumps, stamps)))
    for start, end in ((0, 40), (40, 60)):
        stem = session / f"20260421_022902_{start}_{end}"
        mine = [line for line in lines if start <= line["frame"] < (end if end < 60 else 99)]
        stem.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, mine)))
        film(stem.with_suffix(".mp4"), end - start, 30)
    for start, end in ((0, 40), (40, 60)):
        stem = session / f"20260421_022902_{start}_{end}"
        with publish(stem.with_suffix(".mp4"), tmp_path / "datasets") as dataset:
            begun = 1_700_000_000_000_000 + round(start * 1e6 / 30)
            assert abs(int(dataset.timestamps_us[0]) - begun) < 1000
            presses = [
                sorted(e["key"] for e in line["events"] if e["action"] == "down")
                for line in lines[start:end]
            ]
            assert pressed(dataset, "/actions/key_presses") == presses
            assert "mail" not in json.dumps(dataset.metadata)
            if not start:  # what was held when another segment begins is not in its log
                names = [[key.upper() for key in row] for row in keys]
                assert pressed(dataset, "/actions/keys") == names[:40]
                assert dataset.array("/actions/valid").all()
