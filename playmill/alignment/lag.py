"""Estimate the constant lag between inputs and picture from what is seen. Knows no files.

Inputs and image motion are put on one fine grid of time, whitened, and correlated, twice: in the
recording's odd and in its even parts. What both show at a lag is evidence for it. How much of that
chance makes is seen at all the lags that are not the answer, also far beyond those searched.
docs/time-and-sync.md explains the method and its limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.impulses import Evidence, Impulses, impulses_of
from playmill.decoding.motion import COLUMNS
from playmill.inputs.events import InputEvents

SEARCH_US = 500_000
"""Lags up to this are searched, either way."""
GRID_US = 10_000
"""Step of the grid of time. Correlations cut at _TOP_HZ are smooth over it; the peak's place is
read between its points."""
CONFIDENT = 0.7
"""A `confidence` from here on is worth acting on."""

_REACH = SEARCH_US // GRID_US
_EDGE_US = 30_000
"""A peak this near to the end of the search may be the slope of one outside."""
_PEAK_US = 100_000
"""What lies this near to the peak belongs to it."""
_PART_US = 7_500_000
"""A part is this long, or up to twice as long where there are but two."""
_MIN_PART_US = 4_000_000
"""Of shorter ones nothing is far enough from the lags searched."""
_MAX_PARTS = 480
"""An hour and more is evidence enough: of a longer recording, parts spread evenly are taken."""
_MAX_STEP_US = 250_000
"""Motion over a longer time than this, from one frame to the next, has no time of its own."""
_TOP_HZ, _BOTTOM_HZ = 15.0, 0.5
"""Band of the correlation. Above, frames cannot follow; below, everything goes with everything."""
_SMOOTH_HZ = 0.5
"""Half the width over which a spectrum is averaged before it is divided out."""
_CHANCE = {"same": 4.0, "either": 4.0, "any": 6.0}
"""Products of two correlations, in deviations, that are common in any second of any recording."""
_HALF_SCORE = 20.0
"""A peak of this height has half the confidence that it would have were it very high."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LagEstimate:
    """How much later than its logged time an input's effect is seen."""

    lag_us: int
    """t' = t + lag_us, as `latency_us` of `synchronizer.align`; 0 where nothing was found."""
    confidence: float
    """0 to 1: how far the peak stands out from everything else in the recording."""
    confident: bool
    """Whether `lag_us` is worth acting on; if not, it is no more than a guess."""
    curve_lag_us: NDArray[np.int64]
    """(L,) the lags searched, ascending, GRID_US apart."""
    curve_score: NDArray[np.float64]
    """(L,) the evidence for each of them, at least 0."""
    evidence: tuple[Evidence, ...]
    """What the peak rests on, the weightiest first."""
    num_moves: int
    """Mouse movements that were looked at."""
    num_edges: int
    """Presses, releases and movements of sticks that were looked at."""

    def to_json(self, *, applied: bool) -> dict[str, Any]:
        """Return it for the alignment report.

        Args:
            applied: whether events were given to frames by it.
        """
        return {
            "lag_ms": self.lag_us / 1000,
            "confidence": round(self.confidence, 4),
            "confident": self.confident,
            "applied": applied,
            "evidence": list(self.evidence),
            "moves": self.num_moves,
            "edges": self.num_edges,
            "curve": {
                "lag_ms": (self.curve_lag_us / 1000).tolist(),
                "score": np.round(self.curve_score, 3).tolist(),
            },
        }

    def __repr__(self) -> str:
        sure = "confident" if self.confident else "not confident"
        return f"LagEstimate({self.lag_us} us, {self.confidence:.2f}, {sure})"


def estimate_lag(
    frame_us: NDArray[np.int64], motion: NDArray[np.float16], events: InputEvents
) -> LagEstimate:
    """Find the lag at which the inputs explain best how the picture moves.

    Args:
        frame_us: (N,) int64, strictly ascending, on the events' clock.
        motion: (N, len(motion.COLUMNS)) float16, row i from frame i - 1 to i; NaN: unknown.
        events: of the whole recording; those before and after the video do no harm.
    Raises:
        ValueError: arrays of other shapes or types, times that do not ascend.
    """
    _check(frame_us, motion)
    span_us = int(frame_us[-1] - frame_us[0]) if len(frame_us) else 0
    num_parts = 2 * max(1, span_us // (2 * _PART_US))
    # A multiple of 50 has a fast Fourier transform.
    size = span_us // GRID_US // num_parts // 50 * 50
    if size * GRID_US < _MIN_PART_US or not len(events):
        return _Scores(2 * _REACH + 1).judge()
    used = np.linspace(0, num_parts - 1, min(num_parts, _MAX_PARTS)).astype(np.int64)
    starts_us = int(frame_us[0]) + used * size * GRID_US
    stops_us = starts_us + size * GRID_US
    frames: NDArray[np.int64] | slice = slice(None)
    if len(used) < num_parts:
        frames = np.flatnonzero(_reached(frame_us, starts_us, stops_us))
    spectra = _Spectra(_signals(frame_us, motion, frames, used * size, size), size)
    scores = _Scores(size)
    for impulses in impulses_of(events, _within(events.timestamp_us, starts_us, stops_us)):
        part = np.searchsorted(starts_us, impulses.time_us, side="right") - 1
        index = (impulses.time_us - starts_us[part]) // GRID_US
        on_grid = np.zeros((len(used), size))
        np.add.at(on_grid, (part, index), impulses.value)
        correlations = spectra.correlate(on_grid, impulses.columns)
        scores.add(impulses, correlations)
    return scores.judge()


def _check(frame_us: NDArray[np.int64], motion: NDArray[np.float16]) -> None:
    if frame_us.ndim != 1 or frame_us.dtype != np.int64:
        raise ValueError(f"frame_us is {frame_us.shape} {frame_us.dtype}, not (N,) int64")
    if bool((frame_us[1:] <= frame_us[:-1]).any()):
        at = int(np.argmax(frame_us[1:] <= frame_us[:-1])) + 1
        raise ValueError(f"frame_us does not ascend strictly at frame {at}")
    expected = (len(frame_us), len(COLUMNS))
    if motion.shape != expected or motion.dtype != np.float16:
        raise ValueError(f"motion is {motion.shape} {motion.dtype}, not {expected} float16")


def _within(
    times_us: NDArray[np.int64], starts_us: NDArray[np.int64], stops_us: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return (n,) which of some ascending times lie in one of the spans [start, stop)."""
    found = np.zeros(len(times_us), np.bool_)
    firsts, lasts = np.searchsorted(times_us, (starts_us, stops_us)).tolist()
    for first, last in zip(firsts, lasts, strict=True):
        found[first:last] = True
    return found


def _reached(
    frame_us: NDArray[np.int64], starts_us: NDArray[np.int64], stops_us: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return (N,) which frames are in one of the spans, or next before or after one."""
    found = _within(frame_us, starts_us, stops_us)
    found[np.searchsorted(frame_us, starts_us, side="right") - 1] = True
    found[np.minimum(np.searchsorted(frame_us, stops_us), len(frame_us) - 1)] = True
    return found


def _signals(
    frame_us: NDArray[np.int64],
    motion: NDArray[np.float16],
    frames: NDArray[np.int64] | slice,
    starts: NDArray[np.int64],
    size: int,
) -> Iterator[NDArray[np.float64]]:
    """Yield each column of motion on the grid, (parts, size): a row fills the time before it.

    Then what an event does between two frames, the row of the second shows at lag 0.

    Args:
        frames: those that the parts reach; memory is taken for these alone.
        starts: (parts,) where each part begins, in steps of the grid from the first frame.
        size: steps in a part.
    """
    steps_us = np.diff(frame_us, prepend=frame_us[0])[frames].astype(np.float64)
    rows = motion[frames]
    known = np.isfinite(rows).all(axis=1) & (steps_us > 0) & (steps_us <= _MAX_STEP_US)
    times = (frame_us[frames] - frame_us[0]).astype(np.float64)
    edges = (starts[:, None] + np.arange(size + 1)) * float(GRID_US)
    for column in rows.T:
        values = np.where(known, column, 0).astype(np.float64)
        sums = np.cumsum(_compressed(values) * steps_us)
        yield np.diff(np.interp(edges, times, sums), axis=1) / GRID_US


def _compressed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take roots and clip, so that a cut, a flash or a flick does not outweigh all the rest."""
    roots = np.sign(values) * np.sqrt(np.abs(values))
    clipped: NDArray[np.float64] = np.clip(roots / (roots.std() + 1e-9), -4, 4)
    return clipped


class _Spectra:
    """Whitened spectra of the columns of motion, ready to be correlated with inputs.

    Args:
        signals: C times (parts, size) on the grid; the number of parts is even.
        size: steps in a part.
    """

    def __init__(self, signals: Iterable[NDArray[np.float64]], size: int) -> None:
        self._size = size
        frequencies = np.fft.rfftfreq(self._size, GRID_US * 1e-6)
        self._used = int(np.searchsorted(frequencies, 3 * _TOP_HZ))
        self._smooth = max(1, round(_SMOOTH_HZ / frequencies[1]))
        low, high = frequencies[: self._used] / _BOTTOM_HZ, frequencies[: self._used] / _TOP_HZ
        self._band = np.exp(-(high**2) / 2) * (1 - np.exp(-(low**2) / 2))
        self._whitened = [self._whiten(signal) for signal in signals]

    def correlate(
        self, impulses: NDArray[np.float64], columns: tuple[int, ...]
    ) -> NDArray[np.complex128]:
        """Correlate (parts, size) impulses with columns of motion, over odd and over even parts.

        Returns:
            (len(columns), 2, size) at circular lags of GRID_US. The real part is the correlation;
            the absolute value is blind to the phase of the response.
        """
        rooted = np.sign(impulses) * np.sqrt(np.abs(impulses))
        inputs = self._whiten(rooted).conj() * self._band
        spectra = np.zeros((len(columns), 2, self._size), np.complex128)
        for row, column in enumerate(columns):
            products = self._whitened[column] * inputs
            spectra[row, 0, : self._used] = products[0::2].sum(axis=0)
            spectra[row, 1, : self._used] = products[1::2].sum(axis=0)
        # Without negative frequencies, the inverse is the analytic signal.
        correlations: NDArray[np.complex128] = np.fft.ifft(spectra, axis=-1)
        return correlations

    def _whiten(self, signal: NDArray[Any]) -> NDArray[np.complex64]:
        """Return the parts' spectra, divided by the root of their smooth mean power."""
        centred = signal - signal.mean(axis=1, keepdims=True)
        spectra = np.fft.rfft(centred, axis=1)[:, : self._used]
        power = (np.abs(spectra) ** 2).sum(axis=0)
        for _ in range(3):  # three boxes come close to a bell
            power = _box_filtered(power, self._smooth)
        whitened: NDArray[np.complex64] = (spectra / np.sqrt(power + 1e-12)).astype(np.complex64)
        return whitened


def _box_filtered(values: NDArray[np.float64], half_width: int) -> NDArray[np.float64]:
    padded = np.pad(values, half_width, mode="symmetric")
    box = np.full(2 * half_width + 1, 1 / (2 * half_width + 1))
    return np.convolve(padded, box, mode="valid")


class _Scores:
    """Adds up evidence for every lag, and judges it.

    Args:
        size: number of circular lags.
    """

    def __init__(self, size: int) -> None:
        self._by_evidence: dict[Evidence, NDArray[np.float64]] = {
            "mouse": np.zeros(size),
            "keys": np.zeros(size),
        }
        self._counts: dict[Evidence, int] = {"mouse": 0, "keys": 0}

    def add(self, impulses: Impulses, correlations: NDArray[np.complex128]) -> None:
        """Add what the correlations of one input, (columns, 2, size), have in common."""
        far = correlations.real[..., 2 * _REACH : -2 * _REACH]
        deviation = far.std(axis=-1, keepdims=True)
        strengths = correlations / np.where(deviation > 0, deviation, np.inf)
        odd, even = strengths[:, 0], strengths[:, 1]
        if impulses.response == "any":
            common = (odd * even.conj()).real
        elif impulses.response == "either":
            common = odd.real * even.real
        else:
            common = np.maximum(odd.real, 0) * np.maximum(even.real, 0)
        excess = np.maximum(common - _CHANCE[impulses.response], 0)
        self._by_evidence[impulses.evidence] += excess.sum(axis=0)
        self._counts[impulses.evidence] += impulses.num_logged

    def judge(self) -> LagEstimate:
        """Return the lag with most evidence, and how far it stands out."""
        lags = np.arange(-_REACH, _REACH + 1)
        total = self._by_evidence["mouse"] + self._by_evidence["keys"]
        curve = total[lags]
        peak = int(np.argmax(curve))
        lag_us = _refined(curve, peak) if curve[peak] > 0 else 0
        confidence = _confidence(total, int(lags[peak]))
        if abs(lag_us) > SEARCH_US - _EDGE_US:
            confidence = 0.0
        weights = {name: float(score[lags[peak]]) for name, score in self._by_evidence.items()}
        return LagEstimate(
            lag_us=lag_us,
            confidence=confidence,
            confident=confidence >= CONFIDENT,
            curve_lag_us=lags * GRID_US,
            curve_score=curve,
            evidence=tuple(sorted(filter(weights.get, weights), key=lambda name: -weights[name])),
            num_moves=self._counts["mouse"],
            num_edges=self._counts["keys"],
        )


def _confidence(scores: NDArray[np.float64], peak: int) -> float:
    """Compare the peak with every other lag, also those beyond the search."""
    height = float(scores[peak])
    others = np.roll(scores, _PEAK_US // GRID_US - peak)[2 * _PEAK_US // GRID_US + 1 :]
    rest = float(others.max(initial=0))
    return 0.0 if height <= rest else (1 - rest / height) * height / (height + _HALF_SCORE)


def _refined(curve: NDArray[np.float64], peak: int) -> int:
    """Return the lag of a peak, in microseconds: the top of a parabola through three points."""
    offset = 0.0
    if 0 < peak < len(curve) - 1:
        left, top, right = curve[peak - 1 : peak + 2]
        bend = left - 2 * top + right
        offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return round((peak - _REACH + float(offset)) * GRID_US)
