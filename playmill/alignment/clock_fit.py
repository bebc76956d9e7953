"""How well the log's clock and the container's agree: a measurement, never a correction.

Frame time is anchor + pts whatever is found here. A clock that drifts or jumps, or a frame rate
that the container has wrong, is reported in residuals and findings; nothing is fitted away.
docs/time-and-sync.md says how to read the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.clock_steps import MAX_STEPS, MIN_STEP_US, find_steps
from playmill.alignment.spread import median_us, spread_ms

MIN_SAMPLES = 3
MIN_SPAN_US = 1_000_000
"""Fewer samples, or less time between first and last, say nothing about a clock."""
WRONG_RATE_PPM = 500
"""Clocks of computers differ by less; 30 frames/s called 29.97, or the reverse, differ by 1000."""
NOTABLE_US = 20_000
"""Drift that moves the clocks apart by less over the whole recording is not worth a sentence."""

_SIGMAS = 6
_LIMIT_US = 2**59 - 1
"""Times are clipped to this, which keeps differences within int64: no sound time comes near."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockStep:
    """A jump of the log's clock against the container's."""

    at_us: int
    """Container time of the first sample after it."""
    by_us: int
    """Positive: the log's clock jumped forward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockFit:
    """The log's clock against the container's."""

    source: str
    """What the log's times are: "subtitle track", "frame stamps", ..."""
    offset_us: int
    """Median of log - container, rounded down: one anchor for all."""
    drift_ppm: float
    """What the log's clock gains on the container's, without outliers and steps."""
    drift_error_ppm: float
    """Standard error of `drift_ppm`, for noise without memory."""
    samples: int
    """K, outliers included."""
    span_us: int
    """Container time from the first sample to the last."""
    residual_ms: dict[str, float]
    """p50, p95, max of |log - container - offset_us|: drift, steps and outliers stay in."""
    steps: tuple[ClockStep, ...]
    """Lasting jumps, ascending by time; at most `clock_steps.MAX_STEPS`."""
    findings: tuple[str, ...]
    """What a person should know, as sentences."""

    def to_json(self) -> dict[str, Any]:
        """Return the `clock` of an alignment report."""
        return {
            "source": self.source,
            "offset_us": self.offset_us,
            "drift_ppm": self.drift_ppm,
            "samples": self.samples,
            "residual_ms": dict(self.residual_ms),
            "steps": [{"at_us": step.at_us, "by_us": step.by_us} for step in self.steps],
            "findings": list(self.findings),
        }


def fit_clock(
    container_us: NDArray[np.int64],
    log_us: NDArray[np.int64],
    *,
    source: str,
    findings: Sequence[str] = (),
) -> ClockFit | None:
    """Measure the log's clock against the container's, at moments that both have stamped.

    Outliers, jitter, times in whole milliseconds and missing samples are expected. Memory is a
    few arrays of K numbers.

    Args:
        container_us: (K,) int64, by the container's clock, in any order.
        log_us: (K,) int64, the same moments by the log's clock.
        source: what the log's times are, for people.
        findings: sentences to put before those of the fit.
    Returns:
        None where there is nothing to fit: under MIN_SAMPLES samples or MIN_SPAN_US.
    Raises:
        ValueError: the arrays are not two of one length, int64.
    """
    container, log = time_pair(container_us, log_us)
    order = np.argsort(container, kind="stable")
    at, gap = container[order], log[order] - container[order]
    if len(at) < MIN_SAMPLES or int(at[-1]) - int(at[0]) < MIN_SPAN_US:
        return None
    offset_us = median_us(gap)
    elapsed_s = (at - at[0]) / 1e6
    error_us = gap - offset_us
    drift_ppm, drift_error_ppm, bounds = _drift_and_steps(at, elapsed_s, error_us)
    steps = _steps(at, error_us - drift_ppm * elapsed_s, bounds)
    span_us = int(at[-1]) - int(at[0])
    return ClockFit(
        source=source,
        offset_us=offset_us,
        drift_ppm=round(drift_ppm, 3),
        drift_error_ppm=round(drift_error_ppm, 3),
        samples=len(at),
        span_us=span_us,
        residual_ms=spread_ms(np.abs(error_us)),
        steps=steps,
        findings=(
            *findings,
            *_drift_findings(drift_ppm, drift_error_ppm, span_us),
            *_step_findings(steps),
        ),
    )


def clock_report(
    container_us: NDArray[np.int64], log_us: NDArray[np.int64], *, source: str
) -> dict[str, Any] | None:
    """Return `fit_clock`'s JSON form, for a reader's anchor; None where there is nothing to fit."""
    fit = fit_clock(container_us, log_us, source=source)
    return None if fit is None else fit.to_json()


def time_pair(
    container_us: NDArray[np.int64], log_us: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Check both arrays and clip them to where their differences do not overflow."""
    for array in (container_us, log_us):
        if array.shape != (len(container_us),) or array.dtype != np.int64:
            raise ValueError(
                f"times are {container_us.shape} {container_us.dtype} and {log_us.shape}"
                f" {log_us.dtype}; they must be two arrays (K,) int64"
            )
    return np.clip(container_us, -_LIMIT_US, _LIMIT_US), np.clip(log_us, -_LIMIT_US, _LIMIT_US)


def _drift_and_steps(
    at: NDArray[np.int64], elapsed_s: NDArray[np.float64], error_us: NDArray[np.int64]
) -> tuple[float, float, list[int]]:
    """Return the drift, its standard error, and the first sample of every level.

    Steps hide in drift and drift in steps, so each is found with the other taken out.
    """
    drift = _first_drift(elapsed_s, error_us)
    bounds: list[int] = []
    spread = 0.0
    for _ in range(4):
        found = [0, *find_steps(at, error_us - drift * elapsed_s)]
        if found == bounds:
            break
        bounds = found
        drift, spread = _refined_drift(elapsed_s, error_us, bounds, drift)
    return drift, spread, bounds


def _first_drift(elapsed_s: NDArray[np.float64], error_us: NDArray[np.int64]) -> float:
    """Return the median slope over a sixteenth of the samples.

    A step is within one pair in fifteen, so that a few steps do not move the median.
    """
    lag = max(1, len(elapsed_s) // 16)
    run = elapsed_s[lag:] - elapsed_s[:-lag]
    rise = (error_us[lag:] - error_us[:-lag])[run > 0]
    return float(np.median(rise / run[run > 0]))


def _refined_drift(
    elapsed_s: NDArray[np.float64],
    error_us: NDArray[np.int64],
    bounds: list[int],
    drift: float,
) -> tuple[float, float]:
    """Return the least-squares slope that all levels share, without outliers, and its error."""
    counts = np.diff([*bounds, len(elapsed_s)])
    level = np.repeat(np.arange(len(bounds)), counts)
    slope_error = 0.0
    for _ in range(10):
        rest = error_us - drift * elapsed_s
        rest -= np.repeat([np.median(piece) for piece in np.split(rest, bounds[1:])], counts)
        far = np.abs(rest)
        # Never under 1 ms: times in whole milliseconds can be equal, and then nothing is noise.
        kept = far <= max(1_000.0, 4 * 1.4826 * float(np.median(far)))
        run = _from_level_mean(elapsed_s[kept], level[kept], len(bounds))
        rise = _from_level_mean(error_us[kept].astype(np.float64), level[kept], len(bounds))
        squares = float(run @ run)
        if not squares:
            break
        before, drift = drift, float(run @ rise) / squares
        left = rise - drift * run
        slope_error = float(np.sqrt(left @ left / max(1, len(left) - 1 - len(bounds)) / squares))
        if abs(drift - before) < 1e-4:
            break
    return drift, slope_error


def _from_level_mean(
    values: NDArray[np.float64], level: NDArray[np.int64], num_levels: int
) -> NDArray[np.float64]:
    counts = np.maximum(np.bincount(level, minlength=num_levels), 1)
    centred: NDArray[np.float64] = (
        values - (np.bincount(level, values, minlength=num_levels) / counts)[level]
    )
    return centred


def _steps(
    at: NDArray[np.int64], rest: NDArray[np.float64], bounds: list[int]
) -> tuple[ClockStep, ...]:
    levels = [float(np.median(piece)) for piece in np.split(rest, bounds[1:])]
    return tuple(
        ClockStep(at_us=int(at[bound]), by_us=round(after - before))
        for bound, before, after in zip(bounds[1:], levels[:-1], levels[1:], strict=True)
        if abs(after - before) >= MIN_STEP_US
    )


def _drift_findings(drift_ppm: float, error_ppm: float, span_us: int) -> list[str]:
    apart_us = abs(drift_ppm) * span_us / 1e6
    if abs(drift_ppm) < _SIGMAS * error_ppm or apart_us < NOTABLE_US:
        if error_ppm * span_us / 1e6 < NOTABLE_US:
            return []
        return [
            f"the drift is known to +-{error_ppm:.0f} ppm only: too few or too noisy samples;"
            " frame times are not changed by it, and a longer recording tells more"
        ]
    gains = "gains on" if drift_ppm > 0 else "loses against"
    sentence = (
        f"the log's clock {gains} the video's by {abs(drift_ppm):.0f} ppm,"
        f" {apart_us / 1000:.0f} ms in {span_us / 1e6:.0f} s"
    )
    if abs(drift_ppm) >= WRONG_RATE_PPM:
        sentence += (
            ": more than clocks differ by, so the container's frame rate is probably wrong;"
            " frame times stay as it gives them; make the video again with its true frame rate"
        )
    else:
        sentence += "; frame times stay as the video gives them, shorter recordings drift less"
    return [sentence]


def _step_findings(steps: tuple[ClockStep, ...]) -> list[str]:
    if not steps:
        return []
    most = max(steps, key=lambda step: abs(step.by_us))
    count = f"{len(steps)} times" if len(steps) > 1 else "once"
    more = " or more" if len(steps) >= MAX_STEPS else ""
    return [
        f"the log's clock jumps {count}{more} against the video's, most by"
        f" {most.by_us / 1000:+.1f} ms at {most.at_us} us of the video's;"
        " frame times stay as the video gives them, and events after a jump may lie off by as much:"
        " cut the recording there if that matters"
    ]
