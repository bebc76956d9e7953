"""What an alignment report gives reason to warn of. Knows the report, and neither file nor log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from playmill.config import LINE_POLICY
from playmill.publishing.joined_frames import GAP_FACTOR

MANY_BEYOND_WINDOW = 0.01
"""Share of the events within the video that lie between neighbouring frames and have none. A
window as wide as frames are apart leaves not one of them, so that more than a stray one has a
single cause; and it is the end of every frame's time that is cut off, all through the session."""
MANY_IN_GAPS = 0.05
"""Share of them that lie in gaps. A recorder that loses a frame now and then is common, and the
rows beside a gap are not valid; from one in twenty on, a part of the session is missing."""
FEW_VALID = 0.1
"""Share of rows. With fewer that are valid, hardly a training window is left that has no other."""
_UNKNOWN = (
    "of the others it is not known what was held. It is once every key that is down when the log"
    " begins has been released; a log with the mask unknown says itself when it is not"
)


def alignment_warnings(
    report: Mapping[str, Any], *, policy: str, window_us: int | None
) -> list[str]:
    """Return sentences on events without a frame, and on rows that are not valid.

    Args:
        report: of `alignment_report`.
        policy, window_us: by which events were given to frames.
    """
    if not report["events"] or policy == LINE_POLICY:
        return []
    inside = report["events"] - sum(report["outside"].values())
    why = report["unassigned_why"]
    warnings, by_window = [], []
    if why["beyond_window"] > MANY_BEYOND_WINDOW * inside:
        by_window.append(
            f"{why['beyond_window']} of {inside} events within the video have no frame"
        )
    if has_few_valid(report["frames"], report["valid_frames"]):
        found = f"{report['valid_frames']} of {report['frames']} rows of /actions are valid"
        if _cuts_most_spans(report, policy, window_us):
            by_window.append(found)
        else:
            warnings.append(f"{found}: {_UNKNOWN}")
    if by_window and window_us is not None:
        warnings.append(" and ".join(by_window) + f": {_too_narrow(report, policy, window_us)}")
    if why["in_gap"] > MANY_IN_GAPS * inside:
        warnings.append(
            f"{why['in_gap']} of {inside} events within the video have no frame: they lie in gaps"
            f" between frames, {report['gap_fraction']:.1%} of the time. The recorder lost frames"
            " there; for one that writes a frame only when the picture changes, give"
            " --window-ms none"
        )
    return warnings


def lacks_frames(coverage: float | None) -> bool:
    """Say whether so many events within the video have no frame that somebody should look."""
    return coverage is not None and coverage < 1 - MANY_IN_GAPS


def has_few_valid(frames: int, valid: int) -> bool:
    """Say whether (nearly) no row of a dataset is valid. The only row of one frame never is."""
    return frames > 1 and valid < FEW_VALID * frames


def _cuts_most_spans(report: Mapping[str, Any], policy: str, window_us: int | None) -> bool:
    """Say whether the window is narrower than most of the time that the policy gives a frame."""
    if window_us is None:
        return False
    # These two reach to both sides of a frame.
    reach_us = window_us * (2 if policy in ("nearest", "window") else 1)
    return float(report["frame_interval_ms"]) * 1000 > reach_us


def _too_narrow(report: Mapping[str, Any], policy: str, window_us: int) -> str:
    interval_ms = report["frame_interval_ms"]
    # Wide enough for every frame that is late: beyond this there is a gap before it.
    options = f"--window-ms {10 * math.ceil(GAP_FACTOR * interval_ms / 10)}"
    if policy == "window":  # where a wider one gives events to ever earlier frames
        options = f"--policy following {options}"
    return (
        f"frames are {interval_ms:.4g} ms apart (median), the window is {window_us / 1000:g} ms."
        f" Give {options}; for a dataset that is published: playmill resync FILE {options}"
    )
