"""The clock of a log is measured against the container's, and nothing is fitted away."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playmill.alignment.clock_fit import ClockStep, fit_clock
from playmill.alignment.clock_steps import MAX_STEPS, find_steps

UNIX_US = 1_700_000_000_000_000
INT64 = np.iinfo(np.int64)


def frames(seconds: float, fps: float = 30) -> np.ndarray:
    return np.round(np.arange(int(seconds * fps)) * 1e6 / fps).astype(np.int64)


def logged(container_us: np.ndarray, *, drift_ppm: float = 0, noise_us: object = 0) -> np.ndarray:
    """Return what a log would say: a clock that drifts, and noise."""
    values = container_us * (1 + drift_ppm * 1e-6) + noise_us
    return np.round(values).astype(np.int64) + UNIX_US


class TestOffsetAndResiduals:
    def test_equal_clocks_have_an_offset_and_nothing_else(self) -> None:
        fit = fit_clock(frames(10), logged(frames(10)), source="frame stamps")
        assert fit is not None
        assert fit.to_json() == {
            "source": "frame stamps",
            "offset_us": UNIX_US,
            "drift_ppm": 0.0,
            "samples": 300,
            "residual_ms": {"p50": 0.0, "p95": 0.0, "max": 0.0},
            "steps": [],
            "findings": [],
        }

    def test_the_offset_is_exact_beyond_the_precision_of_float64(self) -> None:
        container = frames(10) + 2**57 + 1
        fit = fit_clock(container, container - 2**55 + 3, source="s")
        assert fit is not None
        assert fit.offset_us == -(2**55) + 3
        assert fit.residual_ms["max"] == 0

    def test_percentiles_are_samples(self) -> None:
        error_us = np.arange(100) * 1000
        container = frames(10, 10)
        fit = fit_clock(container, container + np.r_[error_us[::2], -error_us[1::2]], source="s")
        assert fit is not None
        distances = np.sort(np.abs(np.r_[error_us[::2], -error_us[1::2]] - fit.offset_us)) / 1000
        assert list(fit.residual_ms.values()) == [distances[50], distances[95], distances[99]]

    def test_the_order_of_the_samples_does_not_matter(self) -> None:
        rng = np.random.default_rng(1)
        container, order = frames(20), rng.permutation(600)
        log = logged(container, drift_ppm=80, noise_us=rng.exponential(3000, 600))
        sorted_fit = fit_clock(container, log, source="s")
        assert sorted_fit == fit_clock(container[order], log[order], source="s")
        assert json.dumps(sorted_fit.to_json(), allow_nan=False)


class TestNothingToFit:
    @pytest.mark.parametrize(
        "container", [[], [0], [0, 5_000_000], [0, 1, 999_999], [7, 7, 7, 7]], ids=str
    )
    def test_too_few_samples_or_too_little_time_is_no_fit(self, container) -> None:
        times = np.array(container, np.int64)
        assert fit_clock(times, times, source="s") is None

    @pytest.mark.parametrize(
        ("container", "log"),
        [
            (frames(1), frames(2)),
            (frames(1).astype(float), frames(1)),
            (frames(1).reshape(2, -1), frames(1).reshape(2, -1)),
        ],
        ids=["lengths", "dtype", "shape"],
    )
    def test_what_is_no_pair_of_times_is_an_error(self, container, log) -> None:
        with pytest.raises(ValueError, match=r"they must be two arrays \(K,\) int64"):
            fit_clock(container, log, source="s")

    @given(
        st.lists(
            st.tuples(
                st.integers(int(INT64.min), int(INT64.max)),
                st.integers(int(INT64.min), int(INT64.max)),
            ),
            max_size=30,
        )
    )
    @settings(deadline=None)
    def test_whatever_the_times_the_numbers_are_finite(self, pairs) -> None:
        array = np.array(pairs, np.int64).reshape(-1, 2)
        fit = fit_clock(array[:, 0].copy(), array[:, 1].copy(), source="s")
        if fit is not None:
            json.dumps(fit.to_json(), allow_nan=False)


class TestDrift:
    @given(
        drift_ppm=st.sampled_from([-33_333.0, -999.0, -200.0, 0.0, 40.0, 1001.0, 5000.0, 1e6]),
        seed=st.integers(0, 2**32 - 1),
        num_samples=st.integers(100, 2000),
        outliers=st.sampled_from([0.0, 0.02, 0.15]),
        whole_ms=st.booleans(),
        missing=st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_it_is_found_among_outliers_jitter_whole_milliseconds_and_missing_samples(
        self, drift_ppm, seed, num_samples, outliers, whole_ms, missing
    ) -> None:
        rng = np.random.default_rng(seed)
        container = frames(num_samples / 30)
        if missing:
            container = container[rng.random(len(container)) < 0.7]
        noise = rng.exponential(3000, len(container))
        wrong = rng.random(len(container)) < outliers
        noise[wrong] += rng.normal(0, 1e6, np.count_nonzero(wrong))
        log = logged(container, drift_ppm=drift_ppm, noise_us=noise)
        if whole_ms:
            log = log // 1000 * 1000
        if container[-1] - container[0] < 2_000_000:
            return
        fit = fit_clock(container, log, source="s")
        assert fit is not None
        span_s = (container[-1] - container[0]) / 1e6
        # Ten standard errors of a least-squares slope over the sound samples.
        assert abs(fit.drift_ppm - drift_ppm) < 10 * 3000 * 12**0.5 / (
            span_s * len(container) ** 0.5
        )
        assert fit.samples == len(container)

    def test_a_wrong_frame_rate_is_reported_and_stays_in_the_residuals(self) -> None:
        """29.97 frames/s, written as 30: the container's time runs too fast."""
        container = frames(600)
        fit = fit_clock(container, logged(container, drift_ppm=1001), source="s")
        assert fit is not None
        assert fit.drift_ppm == pytest.approx(1001, abs=0.1)
        assert fit.residual_ms["max"] == pytest.approx(300, abs=1)
        assert fit.steps == ()
        (finding,) = fit.findings
        assert finding == (
            "the log's clock gains on the video's by 1001 ppm, 601 ms in 600 s: more than clocks"
            " differ by, so the container's frame rate is probably wrong; frame times stay as it"
            " gives them; make the video again with its true frame rate"
        )

    def test_a_drift_that_clocks_have_is_told_without_blame(self) -> None:
        fit = fit_clock(frames(3600, 5), logged(frames(3600, 5), drift_ppm=-60), source="s")
        assert fit is not None
        assert fit.findings == (
            "the log's clock loses against the video's by 60 ppm, 216 ms in 3600 s; frame times"
            " stay as the video gives them, shorter recordings drift less",
        )

    def test_noise_too_strong_for_a_drift_is_said(self) -> None:
        rng = np.random.default_rng(3)
        container = frames(20, 2)
        fit = fit_clock(container, logged(container, noise_us=rng.normal(0, 1e5, 40)), source="s")
        assert fit is not None
        (finding,) = fit.findings
        assert finding.startswith("the drift is known to +-")


class TestSteps:
    @given(
        seed=st.integers(0, 2**32 - 1),
        drift_ppm=st.sampled_from([-999.0, 0.0, 50.0, 5000.0]),
        by_us=st.lists(
            st.integers(200_000, 3_000_000).flatmap(lambda size: st.sampled_from([size, -size])),
            max_size=3,
        ),
        outliers=st.sampled_from([0.0, 0.05]),
    )
    @settings(max_examples=60, deadline=None)
    def test_jumps_are_found_where_they_are_and_leave_the_drift_alone(
        self, seed, drift_ppm, by_us, outliers
    ) -> None:
        rng = np.random.default_rng(seed)
        container = frames(60, 20)
        places = np.sort(rng.choice(np.arange(2, 11), len(by_us), replace=False)) * 100
        noise = rng.normal(0, 2000, len(container))
        noise[rng.random(len(container)) < outliers] += 700_000
        for place, size in zip(places, by_us, strict=True):
            noise[place:] += size
        log = logged(container, drift_ppm=drift_ppm, noise_us=noise)
        fit = fit_clock(container, log, source="s")
        assert fit is not None
        assert len(fit.steps) == len(by_us)
        for step, place, size in zip(fit.steps, places, by_us, strict=True):
            assert abs(int(np.searchsorted(container, step.at_us)) - place) <= 10
            assert abs(step.by_us - size) < 5_000
        assert abs(fit.drift_ppm - drift_ppm) < 60

    def test_a_jump_is_told_with_its_size_and_place(self) -> None:
        container = frames(60)
        log = logged(container)
        log[900:] += 1_500_000
        fit = fit_clock(container, log, source="s")
        assert fit is not None
        assert fit.steps == (ClockStep(at_us=30_000_000, by_us=1_500_000),)
        assert fit.findings == (
            "the log's clock jumps once against the video's, most by +1500.0 ms at 30000000 us of"
            " the video's; frame times stay as the video gives them, and events after a jump may"
            " lie off by as much: cut the recording there if that matters",
        )

    @pytest.mark.parametrize(
        "noise",
        [
            np.where(np.arange(1800) // 60 % 10 == 5, 300_000, 0),
            np.where(np.arange(1800) < 900, 0, 15_600),
            np.arange(1800) % 60 * 1000,
            100_000 * np.sin(np.arange(1800) / 95),
            np.random.default_rng(6).normal(0, 100_000, 1800),
        ],
        ids=["bursts of 2 s", "a tick of an old clock", "a saw of 60 ms", "a wander", "noise"],
    )
    def test_what_does_not_last_or_is_small_is_no_jump(self, noise) -> None:
        container = frames(60)
        fit = fit_clock(container, logged(container, noise_us=noise), source="s")
        assert fit is not None
        assert fit.steps == ()

    def test_only_so_many_are_looked_for(self) -> None:
        at = np.arange(100_000, dtype=np.int64) * 33_333
        level = np.cumsum(np.arange(100_000) % 1000 == 999) * 1e6
        steps = find_steps(at, level)
        assert len(steps) == MAX_STEPS
        assert all(step % 1000 == 999 for step in steps)

    @pytest.mark.parametrize("num_samples", [0, 1, 9])
    def test_few_samples_have_no_steps(self, num_samples) -> None:
        assert find_steps(np.arange(num_samples), np.arange(num_samples) * 1e9) == []


def test_a_million_samples_take_a_few_arrays_of_memory() -> None:
    import tracemalloc

    rng = np.random.default_rng(5)
    container = frames(33_333)
    log = logged(container, drift_ppm=20, noise_us=rng.exponential(2000, len(container)))
    tracemalloc.start()
    fit = fit_clock(container, log, source="s")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fit is not None
    assert fit.drift_ppm == pytest.approx(20, abs=0.01)
    assert peak < 200 * len(container)
