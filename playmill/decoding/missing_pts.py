"""Make up the times of packets that have none. Knows no files, no decoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NO_TIME = int(np.iinfo(np.int64).min)
"""Stands for a missing dts, or a missing pts before it is repaired."""

_REORDER_PACKETS = 16  # no codec delays a picture by more


def repair_pts(pts: NDArray[np.int64], dts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give every packet a pts.

    AVI stores no pts, MPEG program streams few. Where FFmpeg knows the B-frames' pts, each other
    picture is shown when the next one like it is decoded. Where it knows none, packets get their
    dts, and the decoder's order decides which picture has which. A single missing pts goes where
    its neighbours in presentation order leave most room.

    Args:
        pts: (P,) decode order, NO_TIME where missing.
        dts: (P,) decode order, NO_TIME where missing.
    Returns:
        (P,) without NO_TIME.
    """
    missing, timed = pts == NO_TIME, dts != NO_TIME
    known = dts[timed] if timed.any() else pts[~missing]
    gaps = np.diff(np.unique(known))
    step = int(np.median(gaps)) if len(gaps) else 1
    repaired = pts.copy()
    holes = np.flatnonzero(missing)
    if timed.all() and missing.all():
        return dts.copy()
    if timed.all():
        anchors = np.flatnonzero(missing | (pts != dts))
        shown = np.append(dts[anchors[1:]], int(dts.max()) + step)
        sure = ~missing[anchors[:-1]]
        if bool((pts[anchors[:-1]][sure] == shown[:-1][sure]).all()):
            repaired[holes] = shown[missing[anchors]]
            return repaired
    if missing.all():
        filled = np.where(timed, dts, int(known.min()) if len(known) else 0)
        late = np.maximum.accumulate(filled - step * np.arange(len(dts)))
        return np.asarray(late + step * np.arange(len(dts)), np.int64)
    for hole in holes.tolist():
        repaired[hole] = _roomiest(repaired, hole, step)
    return repaired


def _roomiest(pts: NDArray[np.int64], hole: int, step: int) -> int:
    near = pts[max(0, hole - _REORDER_PACKETS) : hole + _REORDER_PACKETS + 1]
    times = np.unique(near[near != NO_TIME])
    if not len(times):
        before = pts[:hole][pts[:hole] != NO_TIME]
        return int(before.max()) + step if len(before) else 0
    gaps = np.diff(times)
    if not len(gaps) or (hole >= len(pts) - 1 and int(gaps.max()) < 2 * step):
        return int(times[-1]) + step
    widest = int(np.argmax(gaps))
    return int(times[widest] + times[widest + 1]) // 2
