"""Whether a recorder stamps each frame when it is taken, or one frame late. Knows no format.

Stamps are the log's times of frames, pts the container's. Frame time is anchor + pts; this module
finds the anchor that the stamps give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playmill.alignment.clock_fit import ClockFit, fit_clock, time_pair
from playmill.alignment.spread import median_us, spread_ms
from playmill.phrases import NOTE

LATE_SHARE, LATE_VOTES = 0.8, 3
"""So much of the votes' weight, and at least so many votes, must say the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StampCheck:
    """Whether the stamp of a frame is its own or the next one's."""

    late: bool | None
    """True: stamp i is taken when frame i+1 arrives; None: the frames are too even to tell."""
    own_us: int | None
    """Median of stamp[i] - pts[i], rounded down; None without frames."""
    next_us: int | None
    """Median of stamp[i] - pts[i+1]; None for fewer than two frames."""
    own_ms: dict[str, float] | None
    """p50, p95, max of the distance of stamp[i] - pts[i] from its median; None as `next_us`."""
    next_ms: dict[str, float] | None
    """The same of stamp[i] - pts[i+1]."""
    votes: tuple[int, int]
    """Frames that can tell: how many say late, how many say not."""

    @property
    def anchor_us(self) -> int | None:
        """Time of pts 0 by the stamps: `next_us` if they are late, else `own_us`."""
        return self.next_us if self.late else self.own_us

    @property
    def finding(self) -> str | None:
        """What a person should know; None where stamps are as they should be."""
        if self.late is False or self.own_ms is None or self.next_ms is None:
            return None
        if self.late:
            return (
                f"{NOTE}the recorder's frame stamps are one frame late: stamp i goes with pts i+1"
                f" ({_spread(self.next_ms)} ms off; with pts i {_spread(self.own_ms)} ms off);"
                " this is allowed for"
            )
        return (
            "the frames are too even to tell whether their stamps are one frame late: the anchor"
            f" is {self.own_us} us, or {self.next_us} us if they are; the first is used"
            " unless --pts-zero-us says otherwise"
        )


def _spread(spread_ms: dict[str, float]) -> str:
    """Return median, 95 % and maximum as text."""
    p50, p95, largest = (f"{spread_ms[name]:.1f}" for name in ("p50", "p95", "max"))
    return f"median {p50}, 95 % within {p95}, at most {largest}"


def late_stamp(stamps_us: NDArray[np.int64], pts_us: NDArray[np.int64]) -> StampCheck:
    """Find out whether stamp[i] belongs to frame i or was taken when frame i+1 arrived.

    If stamps are late, stamp[i] - pts[i] is the anchor plus the next frame's interval, so it
    follows each uneven interval, while stamp[i] - pts[i+1] stays put; if they are not, the reverse.
    Every frame before an interval that stands out of the noise votes for the one that stays nearer
    to its median, so that neither outliers nor long even stretches decide. A vote weighs as much as
    the interval is uneven.

    Args:
        stamps_us: (K,) int64, the log's time of each frame.
        pts_us: (K,) int64, ascending, the container's time of the same frames.
    Raises:
        ValueError: the arrays are not two of one length, int64.
    """
    pts, stamps = time_pair(pts_us, stamps_us)
    own = stamps - pts
    following = stamps[:-1] - pts[1:]
    if not len(following):
        own_us = int(own[0]) if len(own) else None
        return StampCheck(
            late=None, own_us=own_us, next_us=None, own_ms=None, next_ms=None, votes=(0, 0)
        )
    own_us, next_us = median_us(own), median_us(following)
    off_own, off_next = np.abs(own - own_us), np.abs(following - next_us)
    near_us = max(2_000, 4 * min(median_us(off_own), median_us(off_next)))
    intervals = pts[1:] - pts[:-1]
    uneven = np.abs(intervals - median_us(intervals))
    fits = (uneven > near_us) & (np.minimum(off_own[:-1], off_next) <= near_us)
    for_late, against = fits & (off_next < off_own[:-1]), fits & (off_next > off_own[:-1])
    late = None
    for verdict, votes in ((True, for_late), (False, against)):
        # By weight: an interval that barely stands out may do so by chance, a long gap does not.
        weight = float(uneven[votes].sum())
        if votes.sum() >= LATE_VOTES and weight >= LATE_SHARE * float(uneven[fits].sum()):
            late = verdict
    return StampCheck(
        late=late,
        own_us=own_us,
        next_us=next_us,
        own_ms=spread_ms(off_own),
        next_ms=spread_ms(off_next),
        votes=(int(for_late.sum()), int(against.sum())),
    )


def fit_stamps(
    stamps_us: NDArray[np.int64], pts_us: NDArray[np.int64], *, source: str
) -> tuple[StampCheck, ClockFit | None]:
    """Run `late_stamp`, then `fit_clock` on the stamps beside the frames that they belong to."""
    check = late_stamp(stamps_us, pts_us)
    findings = () if check.finding is None else (check.finding,)
    if check.late:
        stamps_us, pts_us = stamps_us[:-1], pts_us[1:]
    return check, fit_clock(pts_us, stamps_us, source=source, findings=findings)
