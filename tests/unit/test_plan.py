"""Chunks cover every frame once; times follow the formula, exactly."""

from __future__ import annotations

import json
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playmill.decoding.missing_pts import NO_TIME
from playmill.plan import Chunk, cut, frame_times_us, plan_digest
from playmill.video_index import VideoIndex

INT64 = np.iinfo(np.int64)


def make_index(
    pts: list[int] | np.ndarray,
    keyframe: list[bool] | np.ndarray,
    *,
    clean: list[bool] | np.ndarray | None = None,
    discard: list[bool] | None = None,
) -> VideoIndex:
    count = len(pts)
    return VideoIndex(
        source="v.mp4",
        digest="0" * 64,
        codec="h264",
        width=64,
        height=48,
        time_base=Fraction(1, 90000),
        pts=np.array(pts, np.int64),
        dts=np.full(count, NO_TIME, np.int64),
        pos=np.arange(count, dtype=np.int64) * 100,
        size=np.full(count, 100, np.int64),
        keyframe=np.array(keyframe, np.bool_),
        clean=np.array(keyframe if clean is None else clean, np.bool_),
        repaired=np.zeros(count, np.bool_),
        discard=np.zeros(count, np.bool_) if discard is None else np.array(discard, np.bool_),
    )


def test_chunks_are_whole_gops_near_the_target() -> None:
    index = make_index(range(100), [n % 10 == 0 for n in range(100)])
    assert [chunk.num_frames for chunk in cut(index, target_frames=24)] == [20, 20, 20, 20, 20]
    assert [chunk.num_frames for chunk in cut(index, target_frames=26)] == [30, 30, 30, 10]
    assert [chunk.num_frames for chunk in cut(index, target_frames=1)] == [10] * 10
    assert [chunk.num_frames for chunk in cut(index, target_frames=1000)] == [100]


def test_packets_before_the_first_keyframe_belong_to_the_first_chunk() -> None:
    (first, second) = cut(
        make_index(range(6), [False, False, True, False, True, False]), target_frames=1
    )
    assert (first.start_pts, first.stop_pts, first.first_packet, first.key_packet) == (0, 4, 0, 2)
    assert (second.first_packet, second.stop_packet) == (4, 6)


def test_a_video_without_keyframes_is_one_chunk() -> None:
    (only,) = cut(make_index(range(6), [False] * 6), target_frames=1)
    assert (only.num_frames, only.first_packet, only.stop_packet) == (6, 0, 6)


def test_leading_pictures_belong_to_the_chunk_before_and_are_fed_to_it() -> None:
    # Given: decode order I0 P3 b1 b2 I6 b4 b5 P8 b7
    keyframe = [True, False, False, False, True, False, False, False, False]
    clean = [True] + [False] * 8
    index = make_index([0, 3, 1, 2, 6, 4, 5, 8, 7], keyframe, clean=clean)
    first, second = cut(index, target_frames=1)
    # Then: the first chunk reads past the keyframe of the second, the second begins before it
    assert (first.start_pts, first.stop_pts, first.first_packet, first.stop_packet) == (0, 6, 0, 7)
    assert (second.first_packet, second.key_packet, second.stop_packet) == (0, 4, 9)
    assert [first.num_frames, second.num_frames] == [6, 3]


def test_equal_times_are_one_frame_and_hidden_packets_none() -> None:
    index = make_index([0, 1, 1, 2, 3], [True] + [False] * 4, discard=[True] + [False] * 4)
    (only,) = cut(index, target_frames=1)
    assert (only.start_pts, only.num_frames) == (1, 3)


def test_a_keyframe_after_a_jump_back_in_time_opens_no_chunk() -> None:
    index = make_index(
        [0, 1, 2, 10, 11, 3, 4, 12, 13], [True, False, False, True, False, True, False, True, False]
    )
    chunks = cut(index, target_frames=1)
    assert [chunk.start_pts for chunk in chunks] == [0, 12]
    assert [chunk.num_frames for chunk in chunks] == [7, 2]


def test_nothing_shown_is_no_chunk() -> None:
    assert cut(make_index([0], [True], discard=[True]), target_frames=1) == ()


def test_a_target_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="target_frames=0"):
        cut(make_index([0], [True]), target_frames=0)


@st.composite
def indices(draw: st.DrawFn) -> VideoIndex:
    """Streams of GOPs with reordering, open or closed, hidden packets, equal times."""
    pts: list[int] = []
    keys: list[bool] = []
    start = draw(st.integers(-1000, 1000))
    for _ in range(draw(st.integers(1, 8))):
        gop = draw(st.integers(1, 7))
        times = [start + 3 * i for i in range(gop)]
        rest = draw(st.permutations(times[1:])) if gop < 5 else times[1:]
        if pts and draw(st.booleans()):
            rest = [start - 1, *rest]  # a leading picture
        if draw(st.integers(0, 9)) == 0:
            rest = [*rest, times[-1]]
        pts += [times[0], *rest]
        keys += [True] + [False] * len(rest)
        start += 3 * gop + draw(st.integers(0, 5))
    first = draw(st.integers(0, 2))
    keys[: min(first, len(keys))] = [False] * min(first, len(keys))
    clean = [key and draw(st.booleans()) for key in keys]
    discard = [draw(st.integers(0, 9)) == 0 for _ in keys]
    return make_index(pts, keys, clean=clean, discard=discard)


@st.composite
def nonsense(draw: st.DrawFn) -> VideoIndex:
    """Streams whose times are in no order at all."""
    count = draw(st.integers(1, 24))
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    pts = draw(st.lists(st.integers(-9, 30), min_size=count, max_size=count))
    keys = draw(flags)
    clean = [key and good for key, good in zip(keys, draw(flags), strict=True)]
    return make_index(pts, keys, clean=clean, discard=[False, *draw(flags)[1:]])


@settings(max_examples=200, deadline=None)
@given(index=indices() | nonsense(), target=st.integers(1, 60))
def test_every_shown_packet_lies_in_exactly_one_chunk_that_feeds_it(
    index: VideoIndex, target: int
) -> None:
    chunks = cut(index, target_frames=target)
    shown = np.flatnonzero(~index.discard)
    assert [a.stop_pts for a in chunks[:-1]] == [b.start_pts for b in chunks[1:]]
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert sum(chunk.num_frames for chunk in chunks) == len(np.unique(index.pts[shown]))
    for ordinal in shown.tolist():
        owners = [c for c in chunks if c.start_pts <= index.pts[ordinal] < c.stop_pts]
        assert len(owners) == 1
        assert owners[0].first_packet <= ordinal < owners[0].stop_packet
        assert ordinal >= owners[0].key_packet or owners[0].index == 0
    for chunk in chunks[1:]:
        assert index.keyframe[chunk.key_packet]
        assert index.pts[chunk.key_packet] == chunk.start_pts
        if index.clean[chunk.key_packet]:
            assert chunk.first_packet == chunk.key_packet
        else:
            assert chunk.first_packet == 0 or index.keyframe[chunk.first_packet]
            assert chunk.first_packet < chunk.key_packet


@settings(max_examples=30, deadline=None)
@given(index=indices(), target=st.integers(1, 60))
def test_plans_round_trip_through_json(index: VideoIndex, target: int) -> None:
    chunks = cut(index, target_frames=target)
    back = tuple(Chunk.from_json(json.loads(json.dumps(chunk.to_json()))) for chunk in chunks)
    assert back == chunks
    assert plan_digest(back) == plan_digest(chunks)


def chunk_json(**changes: object) -> dict[str, object]:
    (chunk,) = cut(make_index(range(4), [True] + [False] * 3), target_frames=9)
    return chunk.to_json() | changes


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (chunk_json(start_pts=9), "empty span"),
        (chunk_json(num_frames=-1), "negative count"),
        (chunk_json(stop_packet=0), "feeds no packets"),
        (chunk_json(seek_pts="0"), "not an int64"),
        (chunk_json(index=True), "not an int64"),
        (chunk_json(stop_pts=1 << 70), "not an int64"),
        (chunk_json(surprise=1), "a chunk has the values"),
        (chunk_json(repairs=[[1]]), "unpack"),
    ],
    ids=["span", "count", "packets", "text", "bool", "huge", "unknown", "repairs"],
)
def test_what_is_no_chunk_is_refused(payload: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chunk.from_json(payload)


def test_chunk_ids_sort_as_their_numbers() -> None:
    chunks = cut(make_index(range(12), [True] * 12), target_frames=1)
    assert [chunk.id for chunk in chunks][-1] == "000011"
    assert sorted(chunk.id for chunk in chunks) == [chunk.id for chunk in chunks]


def test_ten_hours_of_video_are_cut_in_seconds() -> None:
    count = 36_000 * 60
    pts = np.arange(count) * 256
    pts.reshape(-1, 4)[:, [1, 2, 3]] = pts.reshape(-1, 4)[:, [3, 1, 2]]
    index = make_index(pts, np.arange(count) % 240 == 0)
    begun = time.perf_counter()
    chunks = cut(index, target_frames=512)
    assert time.perf_counter() - begun < 5
    assert {chunk.num_frames for chunk in chunks} == {480}
    assert len(chunks) == count // 480


BASES = st.one_of(
    st.sampled_from([Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 1_000_000), Fraction(1)]),
    st.fractions(min_value=Fraction(1, 2**31 - 1), max_value=1000, max_denominator=2**31 - 1),
)


@settings(max_examples=200, deadline=None)
@given(
    pts=st.lists(st.integers(-(2**62), 2**62) | st.integers(-(10**9), 10**9), max_size=8),
    time_base=BASES,
    zero=st.integers(-(10**18), 10**18),
)
def test_times_equal_the_formula_in_exact_integers(
    pts: list[int], time_base: Fraction, zero: int
) -> None:
    num, den = time_base.numerator, time_base.denominator
    expected = [zero + (2 * tick * num * 1_000_000 + den) // (2 * den) for tick in pts]
    ticks = np.array(pts, np.int64)
    if any(not INT64.min <= value <= INT64.max for value in expected):
        with pytest.raises(OverflowError):
            frame_times_us(ticks, time_base=time_base, pts_zero_us=zero)
    else:
        times = frame_times_us(ticks, time_base=time_base, pts_zero_us=zero)
        assert times.dtype == np.int64
        assert times.tolist() == expected


def test_a_million_times_are_quick() -> None:
    pts = np.arange(1_000_000, dtype=np.int64) * 1500
    begun = time.perf_counter()
    times = frame_times_us(pts, time_base=Fraction(1, 90000), pts_zero_us=1_700_000_000_000_000)
    assert time.perf_counter() - begun < 1
    assert times[-1] == 1_700_000_000_000_000 + (2 * int(pts[-1]) * 10**6 + 90000) // 180000
