"""Moments are where the player was busy, in every part of the session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from playmill.dataset import open_dataset
from playmill.inputs.events import InputEvents
from playmill.report import moments
from tests.unit.dataset_samples import ZERO_US, make_events
from tests.unit.report_samples import make_dataset

BURSTS_S = (3.0, 11.0, 21.5)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 s at 30 frames/s with three bursts of keys."""
    times = [ZERO_US + round(at * 1e6) + i * 20_011 for at in BURSTS_S for i in range(45)]
    return make_dataset(tmp_path_factory.mktemp("moments"), 900, events=make_events(times))


def test_the_bursts_are_found(dataset: Path) -> None:
    with open_dataset(dataset) as opened:
        chosen = moments.choose(opened)
    assert moments.MAX_MOMENTS - 1 <= len(chosen) <= moments.MAX_MOMENTS  # two may be one
    for at in BURSTS_S:
        assert any(0 <= moment.middle_us - ZERO_US - at * 1e6 <= 900_000 for moment in chosen)
    gaps = np.diff([moment.middle_us for moment in chosen])
    assert (gaps >= moments.BUSY_US // 2).all()


def test_a_moment_shows_what_the_dataset_holds(dataset: Path) -> None:
    with open_dataset(dataset) as opened:
        moment = max(moments.choose(opened), key=lambda moment: moment.presses)
        rows = slice(moment.first, moment.stop)
        assert moment.presses == opened.actions("key_presses")[rows].sum() > 3
        for strip in moment.strips:
            down = opened.actions("keys_any")[rows, opened.key_names.index(strip.name)]
            shown = np.zeros(len(opened), bool)
            for first, stop in strip.down:
                shown[first:stop] = True
            assert (shown[rows] == down).all()
            times = opened.timestamps_us[rows]
            assert all(times[0] <= us <= times[-1] for us in strip.presses_us)
            assert strip.presses_us
        assert list(moment.pictures) == sorted(set(moment.pictures))
        middle = int(np.searchsorted(opened.timestamps_us, moment.middle_us))
        assert middle in moment.pictures


def test_moments_stay_where_pictures_can_be_had(dataset: Path) -> None:
    reachable = np.zeros(900, bool)
    reachable[600:640] = True
    with open_dataset(dataset) as opened:
        chosen = moments.choose(opened, reachable=reachable)
        times = opened.timestamps_us
    assert chosen
    assert all(times[600] <= moment.middle_us <= times[639] for moment in chosen)


@pytest.mark.parametrize("num_frames", [1, 2, 30, 400])
def test_without_events_there_are_moments_all_the_same(tmp_path: Path, num_frames: int) -> None:
    path = make_dataset(tmp_path, num_frames, events=InputEvents.none())
    with open_dataset(path) as opened:
        chosen = moments.choose(opened)
    assert 1 <= len(chosen) <= moments.MAX_MOMENTS
    for moment in chosen:
        assert all(0 <= frame < num_frames for frame in moment.pictures)
        assert not moment.strips


def test_runs() -> None:
    assert moments.runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert moments.runs(np.zeros(0, bool)) == []
