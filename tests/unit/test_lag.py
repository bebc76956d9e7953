"""Lag from content: found where it is known, and no confidence where there is nothing to see."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lag import select
from playmill.alignment import lag
from playmill.alignment.lag import GRID_US, SEARCH_US, estimate_lag
from playmill.decoding.motion import COLUMNS, motion_rows
from playmill.inputs import KINDS, InputEvents
from tests.unit.lag_samples import (
    Scene,
    frame_times,
    key_events,
    log_of,
    mouse_events,
    play,
    read_scene,
)

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared" / "recordings"
DOOM = PROJECT / "examples" / "recordings" / "doom-640x480"
FRAME_US = 33_333
DOOM_TIC_US = 28_571


def played(kind: str, seed: int, *, lag_us: int = 0, tic_us: int = 1, seconds: float = 30) -> Scene:
    """Return a game that was played with the mouse, or with keys."""
    rng = np.random.default_rng(seed)
    frame_us = frame_times(rng, seconds=seconds)
    make = mouse_events if kind == "mouse" else key_events
    events = make(rng, int(frame_us[0]) - 10**6, int(frame_us[-1]) + 10**6)
    pictures = play(rng, frame_us, events, lag_us=lag_us, tic_us=tic_us)
    return Scene(frame_us=frame_us, motion=motion_rows(pictures), events=log_of(events))


def shuffle(events: InputEvents, rng: np.random.Generator) -> InputEvents:
    """Return the same events in another order, with the same waits in another order."""
    times = events.timestamp_us
    waits = rng.permutation(np.diff(times, prepend=times[0]))
    return select(events, rng.permutation(len(events)), times[0] + np.cumsum(waits))


def later(scene: Scene, offset_us: int) -> Scene:
    """Return the scene with frames that say they were later."""
    return replace(scene, frame_us=scene.frame_us + offset_us)


@pytest.fixture(scope="module")
def by_mouse() -> Scene:
    return played("mouse", 1)


@pytest.fixture(scope="module")
def by_keys() -> Scene:
    return played("keys", 2, seconds=60)


@pytest.fixture(scope="module")
def doom() -> Scene:
    return read_scene(DOOM, num_frames=900)


@pytest.mark.parametrize("lag_us", [-400_000, 45_000, 400_000])
@pytest.mark.parametrize("kind", ["mouse", "keys"])
def test_a_game_that_reacts_late_is_found_out(kind: str, lag_us: int) -> None:
    estimate = estimate_lag(*played(kind, 11, lag_us=lag_us, seconds=40).parts)
    assert estimate.confident
    assert estimate.lag_us == pytest.approx(lag_us, abs=15_000 if kind == "keys" else 5_000)
    assert estimate.evidence[0] == kind


@pytest.mark.parametrize(("tic_us", "wait_us"), [(1, 0), (DOOM_TIC_US, DOOM_TIC_US / 2)])
def test_the_lag_is_what_a_game_takes_and_not_more(tic_us: int, wait_us: float) -> None:
    scenes = (played("mouse", seed, tic_us=tic_us) for seed in range(20, 23))
    lags = [estimate_lag(*scene.parts).lag_us for scene in scenes]
    assert np.mean(lags) == pytest.approx(wait_us, abs=3_000)


def test_the_lag_of_doom_is_the_wait_for_its_next_tic(doom: Scene) -> None:
    truth = [json.loads(line) for line in (DOOM / "groundtruth.jsonl").read_text().splitlines()]
    frame_us = np.array([frame["t_us"] for frame in truth])
    turns = np.diff(np.unwrap([frame["state"]["angle"] for frame in truth], period=360))
    moves = doom.events.kind == KINDS.index("move")
    moved_us = doom.events.timestamp_us[moves]
    turned = -0.15 * np.append(0, np.cumsum(doom.events.value[moves, 0]))
    tics = np.arange(frame_us[0] - 10**6, frame_us[-1], 1e6 / 35)

    def explained(phase: float) -> float:
        shown = np.searchsorted(tics + phase * 1e6 / 35, frame_us, side="right") - 1
        angle = turned[np.searchsorted(moved_us, tics[shown] + phase * 1e6 / 35, side="right")]
        return float(np.mean(np.abs(np.diff(angle) - turns) < 0.02))

    # Every turn is that of the moves before the last of 35 tics a second: moves wait for a tic.
    assert max(explained(phase) for phase in np.linspace(0, 1, 41)) > 0.98
    assert estimate_lag(*doom.parts).lag_us == pytest.approx(DOOM_TIC_US / 2, abs=5_000)


def test_late_frames_mean_a_positive_lag(by_mouse: Scene) -> None:
    assert estimate_lag(*later(by_mouse, 200_000).parts).lag_us > 150_000


def test_steps_much_smaller_than_a_frame_are_told_apart(by_mouse: Scene) -> None:
    lags = [estimate_lag(*later(by_mouse, 5_000 * i).parts).lag_us for i in range(8)]
    assert np.diff(lags) == pytest.approx(5_000, abs=2_500)


@pytest.mark.parametrize("offset_us", [-400_000, -150_000, 0, 250_000, 400_000])
def test_an_offset_put_into_a_real_recording_is_found(doom: Scene, offset_us: int) -> None:
    estimate = estimate_lag(*later(doom, offset_us).parts)
    assert estimate.confident
    assert estimate.lag_us - offset_us == pytest.approx(0, abs=FRAME_US)
    assert estimate.evidence == ("mouse", "keys")


@pytest.mark.needs_shared
@pytest.mark.parametrize("offset_us", [-400_000, 0, 400_000])
def test_an_offset_is_found_from_keys_alone(breakout: Scene, offset_us: int) -> None:
    estimate = estimate_lag(*later(breakout, offset_us).parts)
    assert estimate.confident
    assert estimate.lag_us - offset_us == pytest.approx(0, abs=16_667)
    assert estimate.evidence == ("keys",)


@pytest.fixture(scope="module")
def breakout() -> Scene:
    return read_scene(SHARED / "breakout-320x420", num_frames=1800)


# Nothing to see


def test_without_inputs_nothing_is_found(by_mouse: Scene) -> None:
    estimate = estimate_lag(by_mouse.frame_us, by_mouse.motion, InputEvents.none())
    assert (estimate.lag_us, estimate.confidence, estimate.confident) == (0, 0, False)
    assert (estimate.num_moves, estimate.num_edges, estimate.evidence) == (0, 0, ())
    assert not estimate.curve_score.any()


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_still_or_unknown_picture_tells_nothing(by_mouse: Scene, value: float) -> None:
    motion = np.full_like(by_mouse.motion, value)
    estimate = estimate_lag(by_mouse.frame_us, motion, by_mouse.events)
    assert (estimate.lag_us, estimate.confidence) == (0, 0)


def test_noise_in_a_still_picture_tells_nothing(by_mouse: Scene) -> None:
    rng = np.random.default_rng(5)
    pictures = rng.integers(100, 110, (len(by_mouse.frame_us), 36, 64), np.uint8)
    motion = motion_rows(pictures)
    for _ in range(20):
        shuffled = motion[rng.permutation(len(motion))]
        assert not estimate_lag(by_mouse.frame_us, shuffled, by_mouse.events).confident


@pytest.mark.parametrize("kind", ["mouse", "keys"])
def test_inputs_of_another_recording_are_not_believed(
    by_mouse: Scene, by_keys: Scene, doom: Scene, kind: str
) -> None:
    rng = np.random.default_rng(6)
    make = mouse_events if kind == "mouse" else key_events
    for _ in range(6):
        for scene in (by_mouse, by_keys, doom):
            start, stop = int(scene.frame_us[0]), int(scene.frame_us[-1])
            others = log_of(make(rng, start, stop))
            assert not estimate_lag(scene.frame_us, scene.motion, others).confident


def test_shuffled_inputs_are_not_believed(by_mouse: Scene, by_keys: Scene, doom: Scene) -> None:
    rng = np.random.default_rng(7)
    for _ in range(6):
        for scene in (by_mouse, by_keys, doom):
            shuffled = shuffle(scene.events, rng)
            assert not estimate_lag(scene.frame_us, scene.motion, shuffled).confident


@pytest.mark.parametrize("offset_us", [-9_000_000, -3_000_000, 700_000, 1_500_000, 30_000_000])
def test_a_lag_beyond_the_search_is_not_believed(doom: Scene, offset_us: int) -> None:
    assert not estimate_lag(*later(doom, offset_us).parts).confident


# What recordings are like


def test_gaps_and_idle_stretches_do_no_harm(by_mouse: Scene) -> None:
    seconds = (by_mouse.frame_us - by_mouse.frame_us[0]) / 1e6
    kept = ~((seconds > 4) & (seconds < 9)) & ~((seconds > 20) & (seconds < 21))
    motion = by_mouse.motion[kept]
    # As the row after a gap says: the picture has become another.
    motion[1:][np.diff(by_mouse.frame_us[kept]) > 10**6] = 0.3
    estimate = estimate_lag(by_mouse.frame_us[kept], motion, by_mouse.events)
    assert estimate.confident
    assert estimate.lag_us == pytest.approx(0, abs=FRAME_US)


def test_half_a_recording_without_inputs_does_no_harm(doom: Scene) -> None:
    times = doom.events.timestamp_us
    first = select(doom.events, times < times[0] + 15_000_000)
    estimate = estimate_lag(doom.frame_us + 90_000, doom.motion, first)
    assert estimate.lag_us == pytest.approx(90_000, abs=FRAME_US)


def test_cuts_do_no_harm(by_mouse: Scene) -> None:
    motion = by_mouse.motion.copy()
    cut = np.random.default_rng(8).random(len(motion)) < 0.05
    motion[cut] = np.random.default_rng(9).normal(size=(int(cut.sum()), len(COLUMNS)))
    estimate = estimate_lag(by_mouse.frame_us, motion, by_mouse.events)
    assert estimate.confident
    assert estimate.lag_us == pytest.approx(0, abs=FRAME_US)


def test_pictures_shown_twice_do_no_harm(by_mouse: Scene) -> None:
    # Every picture comes once more, half a step later.
    between = by_mouse.frame_us[:-1] + np.diff(by_mouse.frame_us) // 2
    frame_us = np.sort(np.concatenate((by_mouse.frame_us, between)))
    motion = np.zeros((len(frame_us), len(COLUMNS)), np.float16)
    motion[0::2] = by_mouse.motion
    estimate = estimate_lag(frame_us, motion, by_mouse.events)
    assert estimate.confident
    assert estimate.lag_us == pytest.approx(0, abs=FRAME_US)


def test_positions_of_a_pointer_count_as_moves(by_mouse: Scene) -> None:
    events = by_mouse.events
    places = replace(
        events,
        kind=np.full_like(events.kind, 3),
        value=np.cumsum(events.value, axis=0, dtype=np.float64).astype(np.float32),
    )
    estimate = estimate_lag(by_mouse.frame_us, by_mouse.motion, places)
    assert estimate.confident
    assert estimate.lag_us == pytest.approx(estimate_lag(*by_mouse.parts).lag_us, abs=2_000)


def test_auto_repeat_and_lost_presses_are_no_edges(by_keys: Scene) -> None:
    events = by_keys.events
    repeated = np.repeat(np.arange(len(events)), 3)
    again = select(events, repeated)
    one, other = (estimate_lag(by_keys.frame_us, by_keys.motion, e) for e in (events, again))
    assert (one.lag_us, one.num_edges) == (other.lag_us, other.num_edges)


def test_a_stick_is_evidence_like_keys(by_keys: Scene) -> None:
    events = by_keys.events
    pressed = (events.kind == 0).astype(np.float32)
    sign = np.where(np.array(events.codes)[events.code] == "d", 1, -1)
    value = np.column_stack((pressed * sign, np.zeros(len(events)))).astype(np.float32)
    stick = replace(
        events,
        kind=np.full_like(events.kind, 5),
        code=np.zeros_like(events.code),
        codes=("x",),
        code_device=np.array([2], np.uint8),
        value=value,
    )
    estimate = estimate_lag(by_keys.frame_us, by_keys.motion, stick)
    assert estimate.confident
    assert estimate.lag_us == pytest.approx(0, abs=FRAME_US)


# Long recordings, of which parts are looked at


def test_parts_of_a_long_recording_tell_the_lag_of_the_whole(
    by_keys: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = estimate_lag(*later(by_keys, 70_000).parts)
    monkeypatch.setattr(lag, "_MAX_PARTS", 6)
    parts = estimate_lag(*later(by_keys, 70_000).parts)
    assert parts.confident
    assert parts.lag_us == pytest.approx(whole.lag_us, abs=5_000)
    assert 0.6 * whole.num_edges < parts.num_edges < 0.9 * whole.num_edges


def test_memory_is_that_of_the_parts_which_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    frame_us = np.arange(200_000) * 33_333
    motion = np.random.default_rng(1).normal(size=(len(frame_us), len(COLUMNS))).astype(np.float16)
    moves = mouse_events(np.random.default_rng(2), 0, 10**8)
    events = log_of([(time * 60, *rest) for time, *rest in moves])
    monkeypatch.setattr(lag, "_MAX_PARTS", 8)
    tracemalloc.start()
    assert estimate_lag(frame_us, motion, events).num_moves
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000  # a float64 for every frame alone takes 1.6 MB


# Form


def test_the_curve_spans_the_search_and_peaks_at_the_lag(by_mouse: Scene) -> None:
    estimate = estimate_lag(*by_mouse.parts)
    assert estimate.curve_lag_us[[0, -1]].tolist() == [-SEARCH_US, SEARCH_US]
    assert (np.diff(estimate.curve_lag_us) == GRID_US).all()
    peak = estimate.curve_lag_us[np.argmax(estimate.curve_score)]
    assert abs(peak - estimate.lag_us) <= GRID_US // 2
    assert (estimate.curve_score >= 0).all()


def test_the_same_input_gives_the_same_estimate(by_mouse: Scene) -> None:
    one, other = estimate_lag(*by_mouse.parts), estimate_lag(*by_mouse.parts)
    assert (one.lag_us, one.confidence) == (other.lag_us, other.confidence)
    assert one.curve_score.tobytes() == other.curve_score.tobytes()


@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_a_short_recording_tells_nothing(by_mouse: Scene, count: int) -> None:
    estimate = estimate_lag(by_mouse.frame_us[:count], by_mouse.motion[:count], by_mouse.events)
    assert (estimate.lag_us, estimate.confidence) == (0, 0)


def test_times_that_do_not_ascend_are_refused(by_mouse: Scene) -> None:
    with pytest.raises(ValueError, match="does not ascend strictly at frame 1"):
        estimate_lag(by_mouse.frame_us[[1, 0]], by_mouse.motion[:2], by_mouse.events)


def test_motion_of_another_number_of_frames_is_refused(by_mouse: Scene) -> None:
    with pytest.raises(ValueError, match=r"motion is \(3, 27\) float16, not \(4, 27\) float16"):
        estimate_lag(by_mouse.frame_us[:4], by_mouse.motion[:3], by_mouse.events)
