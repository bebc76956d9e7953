"""Cut a video into chunks of whole GOPs. Knows the packet index; no pixels, no files, no queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from playmill.config import digest_of

if TYPE_CHECKING:  # which would import the demuxer
    from playmill.video_index import VideoIndex

_SAFE = 1 << 61


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A span of whole GOPs in presentation order, and the packets that its frames need."""

    index: int
    """Position in the plan."""
    start_pts: int
    """Ticks; first pts of the span."""
    stop_pts: int
    """Ticks; first pts after the span."""
    num_frames: int
    """Frames that the packets promise. Decoding may give fewer."""
    first_packet: int
    """Decode-order ordinal of the first packet to feed; before `key_packet` for a pre-roll."""
    key_packet: int
    """Decode-order ordinal of the keyframe that opens the span."""
    stop_packet: int
    """Decode-order ordinal after the last packet to feed."""
    seek_pts: int
    """Ticks; pts of the first packet (made up if it has none)."""
    seek_dts: int
    """Ticks; dts of the first packet; `missing_pts.NO_TIME` if it has none."""
    seek_pos: int
    """Byte position of the first packet; -1 if unknown."""
    seek_size: int
    """Bytes of the first packet."""
    repairs: tuple[tuple[int, int], ...] = ()
    """(ordinal, pts) of the packets that have no pts of their own."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "repairs" and (type(value) is not int or abs(value) > 1 << 63):
                raise ValueError(f"chunk {field.name} is {value!r}, not an int64")
        if self.index < 0 or self.start_pts >= self.stop_pts or self.num_frames < 0:
            raise ValueError(f"chunk {self.index} has an empty span or a negative count")
        if not 0 <= self.first_packet <= self.key_packet < self.stop_packet:
            raise ValueError(f"chunk {self.index} feeds no packets, or not its keyframe")

    @property
    def id(self) -> str:
        """Return the chunk's name within its plan."""
        return f"{self.index:06d}"

    @property
    def repaired_pts(self) -> bool:
        """Return whether some of its packets have no pts of their own."""
        return bool(self.repairs)

    def to_json(self) -> dict[str, Any]:
        """Return the chunk as a JSON object; `from_json` is the inverse."""
        # Not `asdict`, which copies value by value: ten hours have thousands of chunks.
        return {name: getattr(self, name) for name in self.__slots__} | {
            "repairs": [list(pair) for pair in self.repairs]
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Chunk:
        """Build a chunk from `to_json`'s object; raise ValueError if it is none."""
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or set(value) != names:
            raise ValueError(f"a chunk has the values {sorted(names)}, not {sorted(value)}")
        repairs = tuple((int(ordinal), int(pts)) for ordinal, pts in value["repairs"])
        return cls(**{**value, "repairs": repairs})


def cut(index: VideoIndex, *, target_frames: int) -> tuple[Chunk, ...]:
    """Cut `index` into chunks of whole GOPs, each as near to `target_frames` frames as they allow.

    Every shown packet's pts lies in exactly one chunk. A keyframe opens a chunk only if all
    packets before it in decode order are shown before it. One that needs earlier packets is
    reached from the keyframe before it.

    Raises:
        ValueError: target_frames is below 1.
    """
    if target_frames < 1:
        raise ValueError(f"{target_frames=} must be at least 1")
    shown = ~index.discard
    times = np.sort(index.pts[shown], kind="stable")
    times = times[np.diff(times, prepend=times[:1] - 1) > 0]
    if not len(times):
        return ()
    keys = _openings(index, int(times[0]))
    picked = _pick(np.searchsorted(times, index.pts[keys]), len(times), target_frames)
    return _chunks(index, times, keys[picked])


def plan_digest(chunks: Sequence[Chunk]) -> str:
    """Return the sha256 hex digest of a plan."""
    return digest_of([chunk.to_json() for chunk in chunks])


def _openings(index: VideoIndex, first_pts: int) -> NDArray[np.int64]:
    """Return the ordinals of keyframes at which a chunk may begin; the first begins the video."""
    before = np.maximum.accumulate(np.where(index.discard, np.iinfo(np.int64).min, index.pts))
    keys = np.flatnonzero(index.keyframe)
    opening = (keys > 0) & (before[keys - 1] < index.pts[keys]) & (index.pts[keys] > first_pts)
    # A keyframe later in decode order that is shown earlier closes the span of one before it.
    later = np.minimum.accumulate(index.pts[keys][::-1])[::-1]
    rising = np.append(index.pts[keys][:-1] < later[1:], [True] * bool(len(keys)))
    first = keys[:1] if len(keys) else np.zeros(1, np.int64)
    rest = keys[opening & rising.astype(np.bool_)]
    return np.concatenate((first, rest[rest > first[0]]))


def _pick(starts: NDArray[np.int64], num_frames: int, target_frames: int) -> list[int]:
    """Choose openings, by position, so that the counts between them are near the target."""
    ends = np.append(starts, num_frames)
    ends[0] = 0
    picked = [0]
    while True:
        here = int(ends[picked[-1]])
        goal = here + target_frames
        nearest = int(np.searchsorted(ends, goal))
        if nearest == len(ends) or goal - ends[nearest - 1] <= ends[nearest] - goal:
            nearest -= 1
        nearest = max(nearest, int(np.searchsorted(ends, here, side="right")))
        if nearest >= len(starts) or ends[nearest] >= num_frames:
            return picked
        picked.append(nearest)


def _chunks(
    index: VideoIndex, times: NDArray[np.int64], openings: NDArray[np.int64]
) -> tuple[Chunk, ...]:
    bounds = index.pts[openings].copy()
    bounds[0] = times[0]
    bounds = np.append(bounds, times[-1] + 1)
    owner = np.searchsorted(bounds, index.pts, side="right") - 1
    stops = np.zeros(len(openings) + 2, np.int64)
    ordinals = np.arange(len(index), dtype=np.int64)
    shown = ~index.discard
    np.maximum.at(stops, owner[shown], ordinals[shown] + 1)
    firsts = _feed_from(index, openings)
    counts = np.diff(np.searchsorted(times, bounds))
    chunks = []
    for i, key in enumerate(openings.tolist()):
        first, stop = int(firsts[i]), max(int(stops[i]), key + 1)
        holes = first + np.flatnonzero(index.repaired[first:stop])
        chunks.append(
            Chunk(
                index=i,
                start_pts=int(bounds[i]),
                stop_pts=int(bounds[i + 1]),
                num_frames=int(counts[i]),
                first_packet=first,
                key_packet=key,
                stop_packet=stop,
                seek_pts=int(index.pts[first]),
                seek_dts=int(index.dts[first]),
                seek_pos=int(index.pos[first]),
                seek_size=int(index.size[first]),
                repairs=tuple(zip(holes.tolist(), index.pts[holes].tolist(), strict=True)),
            )
        )
    return tuple(chunks)


def _feed_from(index: VideoIndex, openings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where feeding starts: at a clean keyframe, else at the keyframe before it."""
    keys = np.flatnonzero(index.keyframe)
    before = np.searchsorted(keys, openings) - 1
    earlier = np.where(before >= 0, keys[np.maximum(before, 0)] if len(keys) else 0, 0)
    firsts = np.where(index.clean[openings], openings, earlier)
    firsts[0] = 0
    return np.asarray(firsts, np.int64)


def frame_times_us(
    pts: NDArray[np.int64], *, time_base: Fraction, pts_zero_us: int
) -> NDArray[np.int64]:
    """Convert ticks to microseconds on the recording's clock, exactly, to the nearest.

    pts_zero_us + floor((2 * pts * num * 1_000_000 + den) / (2 * den)), by integers.

    Args:
        pts: (N,) ticks, negative ones included.
        time_base: seconds per tick, num/den.
        pts_zero_us: the clock's time of pts 0.
    Returns:
        (N,) microseconds.
    Raises:
        OverflowError: a time lies outside int64.
    """
    factor, divisor = 2 * time_base.numerator * 1_000_000, 2 * time_base.denominator
    half = time_base.denominator
    ticks = np.asarray(pts, np.int64)
    if not len(ticks):
        return np.zeros(0, np.int64)
    # pts = whole * divisor + rest splits the product, so that it stays small whatever pts is.
    whole, rest = np.divmod(ticks, divisor) if divisor < _SAFE else (ticks, ticks)
    largest = max(abs(int(whole.min())), abs(int(whole.max()))) * factor + abs(pts_zero_us)
    if divisor < _SAFE and divisor * factor + half < _SAFE and largest < _SAFE:
        return np.asarray(pts_zero_us + whole * factor + (rest * factor + half) // divisor)
    exact = [pts_zero_us + (tick * factor + half) // divisor for tick in ticks.tolist()]
    return np.array(exact, np.int64)
