"""Everything of a dataset but features and pictures: frames, events, and how they belong together.

Made from a recording by `consolidation`, and anew from a published dataset by `resync`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playmill import synchronizer
from playmill.alignment import actions, gates
from playmill.alignment.conservation import what_is_lost
from playmill.alignment.lag import LagEstimate, estimate_lag
from playmill.alignment.report import alignment_report
from playmill.alignment.warnings import alignment_warnings
from playmill.config import READER_POLICY, PipelineConfig
from playmill.errors import ClockError, DatasetError
from playmill.inputs.events import InputEvents
from playmill.inputs.stop_chord import chord_names, without_stop_chord
from playmill.manifest import DEFAULT_WINDOW_US
from playmill.phrases import plural
from playmill.publishing.content import DatasetContent


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameTable:
    """The frames of a session. All arrays have N rows."""

    pts: NDArray[np.int64]
    """(N,) stream ticks, strictly increasing."""
    timestamp_us: NDArray[np.int64]
    """(N,) on the recording's clock, strictly increasing."""
    flags: NDArray[np.uint8]
    """(N,) `schema.FRAME_FLAGS` bits."""
    motion: NDArray[np.float16]
    """(N, C) `motion.COLUMNS`: how each picture moved against the one before; NaN: unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What is known of a session besides its frames and events."""

    session_id: str
    dataset_key: str
    clock: str
    """`DatasetContent.clock`."""
    metadata: Mapping[str, Any]
    provenance: Mapping[str, Any]
    warnings: tuple[str, ...]
    """Of everything before frames and events were brought together."""
    time_base: Fraction
    """Seconds per tick of pts."""
    pts_zero_us: int
    clock_report: Mapping[str, Any] | None
    """The log's clock against the container's, where both are known."""
    log: str | None
    """Path of the log, for messages; None: there is none."""


def label(
    session: Session, frames: FrameTable, events: InputEvents, config: PipelineConfig
) -> DatasetContent:
    """Give the events to the frames, as `config` says, and judge how good that is.

    What misses a gate of `config.require` is labelled too: see `gates.failed`.

    Raises:
        ClockError: no event falls into the video, so the two clocks cannot be one.
    """
    assert config.policy != READER_POLICY  # filled in when the manifest was made
    chord = chord_names(events)
    if config.trim_stop_chord:
        events = without_stop_chord(events)
    lag = estimate_lag(frames.timestamp_us, frames.motion, events)
    latency_us, lag_warnings = _latency(config, lag)
    overlap = check_overlap(
        session.log,
        events,
        frames.timestamp_us,
        window_us=config.window_us,
        latency_us=latency_us,
    )
    alignment = synchronizer.align(
        frames.timestamp_us,
        events.timestamp_us,
        policy=config.policy,
        window_us=config.window_us,
        latency_us=latency_us,
    )
    done = actions.build(frames.timestamp_us, events, alignment)
    report = alignment_report(
        frames.timestamp_us,
        frames.flags,
        events,
        alignment,
        done,
        clock=None if session.clock_report is None else dict(session.clock_report),
        lag=_lag_json(lag, config),
    )
    _check_conservation(session, report)
    report["gates"] = gates.evaluate(
        map(gates.parse_gate, config.require), report, latency_us=latency_us
    )
    warnings = (
        *overlap,
        *alignment_warnings(report, policy=config.policy, window_us=config.window_us),
        *gates.not_checked(report["gates"]),
        *lag_warnings,
        *_warnings(session, config, events, chord),
    )
    report["warnings"] = list(warnings)
    return DatasetContent(
        session_id=session.session_id,
        dataset_key=session.dataset_key,
        clock=session.clock,
        metadata=session.metadata,
        provenance=session.provenance,
        warnings=[*session.warnings, *warnings],
        pts=frames.pts,
        time_base=session.time_base,
        pts_zero_us=session.pts_zero_us,
        timestamp_us=frames.timestamp_us,
        flags=frames.flags,
        motion=frames.motion,
        events=events,
        alignment=alignment,
        actions=done,
        controls=controls(session.metadata, config),
        report=report,
    )


def _latency(config: PipelineConfig, lag: LagEstimate) -> tuple[int, list[str]]:
    """Return the latency to apply, and what to say of it."""
    if not config.auto_latency:
        return config.latency_us, []
    if lag.confident:
        return lag.lag_us, []
    return config.latency_us, [
        f"--latency-ms auto: the pictures do not show the lag (confidence {lag.confidence:.2f});"
        f" {config.latency_us / 1000:g} ms are applied"
    ]


def _lag_json(lag: LagEstimate, config: PipelineConfig) -> dict[str, Any] | None:
    if not lag.num_moves + lag.num_edges:
        return None
    return lag.to_json(applied=config.auto_latency and lag.confident)


def check_overlap(
    log: str | None,
    events: InputEvents,
    frame_us: NDArray[np.int64],
    *,
    window_us: int | None,
    latency_us: int,
) -> tuple[str, ...]:
    """Compare the spans of log and video; return warnings.

    Args:
        log: its path, for messages.
    Raises:
        ClockError: no event falls into the video, so the two clocks cannot be one.
    """
    if not len(events):
        return ()
    reach = DEFAULT_WINDOW_US if window_us is None else window_us
    # Python integers: times may lie anywhere in 63 bits.
    first = int(frame_us[0]) - reach - latency_us
    last = int(frame_us[-1]) + reach - latency_us
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    inside = int(
        np.searchsorted(events.timestamp_us, min(max(last, low), high), side="right")
        - np.searchsorted(events.timestamp_us, min(max(first, low), high), side="left")
    )
    if not inside:
        raise ClockError(
            str(log),
            "",
            f"events from {events.timestamp_us[0]} to {events.timestamp_us[-1]} us, none in the"
            " video",
            f"events between {first} and {last} us, when there was video",
            "Check video.pts_zero_us and the log's clock: they must be one clock.",
        )
    if 2 * inside < len(events):
        return (f"only {inside:,} of {plural(len(events), 'event')} fall into the video",)
    return ()


def _check_conservation(session: Session, report: Mapping[str, Any]) -> None:
    if not report["conservation"]["holds"]:
        raise DatasetError(session.session_id, what_is_lost(report["conservation"]))


def controls(metadata: Mapping[str, Any], config: PipelineConfig) -> dict[str, str]:
    """Return what inputs mean in the game: what session.json says, then what the user says."""
    own = metadata.get("controls")
    pairs = own.items() if isinstance(own, dict) else ()
    return {name: meaning for name, meaning in pairs if isinstance(meaning, str)} | dict(
        config.controls
    )


def _warnings(
    session: Session, config: PipelineConfig, events: InputEvents, chord: tuple[str, ...]
) -> list[str]:
    warnings = []
    if session.log is not None and not len(events):
        warnings.append("the input log is empty: the dataset has no events")
    if config.policy == "window":
        warnings.append(
            "policy window gives an event to the earliest frame within the window, most of a"
            " window before it: kept for compatibility; prefer following"
        )
    if chord and not config.trim_stop_chord:
        warnings.append(
            f"the log ends with {' + '.join(chord)} held, which stopped the recorder;"
            " --trim-stop-chord keeps them out of /actions"
        )
    if events.rejected.total:
        warnings.append(events.rejected.sentence())
    return warnings
