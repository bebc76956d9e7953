"""The timeline says the same as a count over every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from playmill.dataset import open_dataset
from playmill.inputs.events import InputEvents
from playmill.report import charts, timeline
from playmill.schema import frame_flag
from tests.unit.dataset_samples import ZERO_US, make_events
from tests.unit.lag_samples import log_of
from tests.unit.report_samples import make_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that come at uneven times, with a gap."""
    rng = np.random.default_rng(3)
    ticks = rng.integers(1000, 6000, 400)
    ticks[200] = 900_000
    flags = np.zeros(400, np.uint8)
    flags[200] = frame_flag("gap_before")
    flags[50:60] = frame_flag("black")
    events = make_events(range(ZERO_US - 90_000, ZERO_US + 30_000_000, 60_101))
    return make_dataset(
        tmp_path_factory.mktemp("line"), pts=np.cumsum(ticks), flags=flags, events=events
    )


@pytest.mark.parametrize("max_bins", [1, 7, 600, 5000])
def test_shares_are_those_of_a_look_at_every_microsecond(dataset: Path, max_bins: int) -> None:
    with open_dataset(dataset) as opened:
        line = timeline.build(opened, max_bins=max_bins)
        times = opened.timestamps_us - opened.timestamps_us[0]
        until, _ = timeline._shown_until(opened.timestamps_us, opened.flags)
        until = until - opened.timestamps_us[0]
        down = opened.actions("keys_any").astype(bool)
        names = opened.key_names
    edges = np.linspace(0, line.length_us, max_bins + 1)
    for held in line.keys:
        column = down[:, names.index(held.name)]
        for index in np.linspace(0, max_bins - 1, 7).astype(int):
            overlap = np.minimum(until, edges[index + 1]) - np.maximum(times, edges[index])
            expected = overlap.clip(0)[column].sum() / (edges[1] - edges[0])
            assert held.bins[index] == pytest.approx(expected, abs=1e-9)
    assert {held.name for held in line.keys} == {"a", "w"}
    total = sum(line.gap) * line.length_us / max_bins
    assert total == pytest.approx(line.gaps[0].length_us, rel=1e-6)


def test_one_frame_of_a_long_bin_is_a_small_share_of_it(dataset: Path) -> None:
    with open_dataset(dataset) as opened:
        (whole,) = timeline.build(opened, max_bins=1).flags["black"]
        times = opened.timestamps_us
    assert whole == pytest.approx((times[60] - times[50]) / (times[-1] - times[0]), rel=0.01)
    shade1, shade6 = (charts.shades(np.array([share]), class_="x") for share in (whole, 1.0))
    assert "shade1" in shade1
    assert "shade6" in shade6


def test_small_shares_are_told_apart() -> None:
    drawn = [charts.shades(np.array([share]), class_="x") for share in (0.01, 0.1, 0.3, 0.6, 0.9)]
    assert len(set(drawn)) == 5
    assert "path" not in charts.shades(np.zeros(3), class_="x")


def test_marks_at_one_place_are_drawn_once() -> None:
    assert charts.marks([1.0, 2.0, 1.0001, 2.0] * 1000, class_="x") == charts.marks(
        [1, 2], class_="x"
    )


def test_an_axis_is_drawn_by_its_mean(tmp_path: Path) -> None:
    """The largest value would fill an hour's bins, as sticks reach their end every few seconds."""
    held = [(0, -0.25), (4_000_000, 1.0)]
    events = log_of([(ZERO_US + us, "axis", "gamepad", "x", value, 0) for us, value in held])
    with open_dataset(make_dataset(tmp_path, 300, events=events)) as opened:
        ((_, (mean,)),) = timeline.build(opened, max_bins=1).axes
    assert mean == pytest.approx(0.4 * 0.25 + 0.6 * 1.0, rel=0.02)


def test_sums_and_counts_are_kept(dataset: Path) -> None:
    with open_dataset(dataset) as opened:
        line = timeline.build(opened)
        assert line.mouse.sum() == np.abs(opened.actions("mouse")).sum()
        assert line.unassigned.sum() == (opened.array("/sync/frame") < 0).sum() > 0
        assert [held.presses for held in line.keys] == sorted(
            opened.actions("key_presses").sum(axis=0), reverse=True
        )
    assert list(line.flags) == ["black"]
    assert line.flags["black"].any()
    assert not line.flags["black"].all()


def test_a_gap_shows_no_picture_and_nothing_held(dataset: Path) -> None:
    with open_dataset(dataset) as opened:
        line = timeline.build(opened)
        at = opened.timestamps_us[199] - opened.timestamps_us[0]
        longest = opened.timestamps_us[200] - opened.timestamps_us[199]
    (gap,) = line.gaps
    assert gap.at_us == pytest.approx(at + line.frame_us, abs=1)
    assert gap.length_us == pytest.approx(longest - line.frame_us, abs=1)
    inside = line.gap == 1
    assert inside.sum() > 100
    assert not any(held.bins[inside].any() for held in line.keys)


def test_one_frame_and_no_event(tmp_path: Path) -> None:
    with open_dataset(make_dataset(tmp_path, 1, events=InputEvents.none())) as opened:
        line = timeline.build(opened)
    assert (line.keys, line.gaps, line.length_us) == ((), (), timeline.ONLY_FRAME_US)
    assert not line.gap.any()


def test_events_at_the_ends_of_time_are_counted(tmp_path: Path) -> None:
    events = make_events([0, ZERO_US + 20_000, 2**63 - 2])
    path = make_dataset(tmp_path, 3, events=events, latency_us=5_000)
    with open_dataset(path) as opened:
        line = timeline.build(opened)
    assert (line.unassigned[0], line.unassigned[-1]) == (1, 1)
