"""A recorder that stamps a frame when the next one arrives is found out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playmill.alignment.frame_stamps import StampCheck, fit_stamps, late_stamp

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"
UNIX_US = 1_700_000_000_000_000
INT64 = np.iinfo(np.int64)


def uneven_pts(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Return pts of a video that holds only changed pictures: mostly 20 ms, and gaps."""
    steps = rng.choice([20_000, 30_000, 100_000, 700_000], num_frames, p=[0.7, 0.1, 0.1, 0.1])
    return np.cumsum(steps)


class TestVerdict:
    @given(
        seed=st.integers(0, 2**32 - 1),
        num_frames=st.integers(20, 500),
        late=st.booleans(),
        jitter_us=st.sampled_from([0, 1000, 5000]),
        outliers=st.sampled_from([0.0, 0.05]),
    )
    @settings(max_examples=100, deadline=None)
    def test_uneven_frames_tell(self, seed, num_frames, late, jitter_us, outliers) -> None:
        rng = np.random.default_rng(seed)
        pts = uneven_pts(rng, num_frames)
        taken = np.r_[pts[1:], pts[-1] + 20_000] if late else pts
        delay = rng.exponential(jitter_us, num_frames) if jitter_us else np.zeros(num_frames)
        delay[rng.random(num_frames) < outliers] += 3_000_000
        check = late_stamp(taken + UNIX_US + delay.astype(np.int64), pts)
        # A short recording may have too few uneven frames to tell, but it never tells wrong.
        if num_frames < 200 and check.late is None:
            return
        assert check.late is late
        assert check.anchor_us == pytest.approx(UNIX_US, abs=3 * jitter_us + 1)

    def test_a_few_gaps_in_an_even_video_are_enough(self) -> None:
        steps = np.full(3000, 16_667)
        steps[[500, 1500, 2500]] = 400_000
        pts = np.cumsum(steps)
        assert late_stamp(pts[1:] + UNIX_US, pts[:-1]).late is True
        assert late_stamp(pts[:-1] + UNIX_US, pts[:-1]).late is False

    def test_two_gaps_are_too_few(self) -> None:
        steps = np.full(3000, 16_667)
        steps[[500, 1500]] = 400_000
        pts = np.cumsum(steps)
        assert late_stamp(pts[1:] + UNIX_US, pts[:-1]).late is None

    def test_stamps_that_fit_neither_have_no_vote(self) -> None:
        steps = np.full(1000, 20_000)
        steps[50::50] = 700_000
        pts = np.cumsum(steps)
        stamps = pts + UNIX_US
        stamps[49:400:50] += 3_000_000  # before the gaps, where it would look late
        assert late_stamp(stamps, pts).late is False

    def test_even_frames_cannot_tell_and_both_anchors_are_given(self) -> None:
        rng = np.random.default_rng(0)
        pts = np.arange(300) * 50_000
        check = late_stamp(pts + UNIX_US + rng.integers(0, 2000, 300), pts)
        assert check.late is None
        assert check.anchor_us == check.own_us
        assert check.finding == (
            "the frames are too even to tell whether their stamps are one frame late: the anchor"
            f" is {check.own_us} us, or {check.next_us} us if they are; the first is used"
            " unless --pts-zero-us says otherwise"
        )
        assert check.own_us - check.next_us == pytest.approx(50_000, abs=50)

    def test_stamps_that_follow_neither_do_not_tell(self) -> None:
        rng = np.random.default_rng(0)
        check = late_stamp(np.sort(rng.integers(0, 10**8, 200)), uneven_pts(rng, 200))
        assert check.late is None

    @pytest.mark.parametrize("num_frames", [0, 1])
    def test_one_frame_has_no_next(self, num_frames) -> None:
        check = late_stamp(np.full(num_frames, 9), np.full(num_frames, 2))
        assert check == StampCheck(
            late=None,
            own_us=7 if num_frames else None,
            next_us=None,
            own_ms=None,
            next_ms=None,
            votes=(0, 0),
        )
        assert check.finding is None

    def test_what_is_no_pair_of_times_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"times are \(3,\) int64 and \(4,\) int64"):
            late_stamp(np.arange(4), np.arange(3))

    @given(st.lists(st.tuples(*[st.integers(int(INT64.min), int(INT64.max))] * 2), max_size=20))
    @settings(deadline=None)
    def test_no_time_is_too_far(self, pairs) -> None:
        array = np.array(pairs, np.int64).reshape(-1, 2)
        late_stamp(array[:, 0].copy(), np.sort(array[:, 1]))


def test_the_fit_is_made_with_the_frames_that_the_stamps_belong_to() -> None:
    pts = uneven_pts(np.random.default_rng(2), 400)
    check, fit = fit_stamps(pts[1:] + UNIX_US, pts[:-1], source="frame stamps")
    assert check.late is True
    assert fit is not None
    assert fit.residual_ms["max"] == 0
    assert fit.offset_us == UNIX_US == check.anchor_us
    assert fit.findings == (check.finding,)
    check, fit = fit_stamps(pts + UNIX_US, pts, source="frame stamps")
    assert (check.late, check.finding) == (False, None)
    assert fit is not None
    assert (fit.offset_us, fit.samples, fit.findings) == (UNIX_US, 400, ())


@pytest.mark.needs_shared
class TestRealRecordings:
    """The table of measured stamps, to its last digit."""

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        reader = pytest.importorskip("mcap.reader")
        with open(RECORDINGS / "owa" / name, "rb") as file:
            screens = [
                json.loads(message.data)
                for _, _, message in reader.make_reader(file).iter_messages(topics=["screen"])
            ]
        stamps = [screen["utc_ns"] // 1000 for screen in screens]
        pts = [
            (screen.get("media_ref") or {}).get("pts_ns", screen.get("pts")) for screen in screens
        ]
        return np.array(stamps), np.array(pts) // 1000

    @pytest.mark.parametrize(
        ("name", "frames", "own_ms", "next_ms"),
        [
            ("0.3.2.mcap", 49, [6.5, 510.3, 1215.4], [2.8, 4.7, 9.6]),
            ("example.mcap", 590, [1.5, 9.6, 29.4], [1.5, 4.2, 15.5]),
        ],
    )
    def test_stamps_are_one_frame_late(self, name, frames, own_ms, next_ms) -> None:
        stamps, pts = self.read(name)
        assert len(stamps) == frames
        check, fit = fit_stamps(stamps, pts, source="frame stamps")
        assert check.late is True
        assert [round(value, 1) for value in check.own_ms.values()] == own_ms
        assert [round(value, 1) for value in check.next_ms.values()] == next_ms
        assert fit is not None
        assert fit.residual_ms == check.next_ms
        assert fit.steps == ()
        assert check.finding in fit.findings

    def test_frame_times_agree_with_the_clock_in_the_video(self) -> None:
        av = pytest.importorskip("av")
        stamps, pts = self.read("0.3.2.mcap")
        with av.open(str(RECORDINGS / "owa" / "0.3.2.mkv")) as container:
            (track,) = container.streams.subtitles
            ticks = [
                (packet.pts * track.time_base, int(bytes(packet)))
                for packet in container.demux(track)
                if packet.pts is not None
            ]
        in_band = [utc_ns // 1000 - round(pts_s * 1_000_000) for pts_s, utc_ns in ticks]
        anchor_us = late_stamp(stamps, pts).anchor_us
        assert len(in_band) == 5
        assert max(abs(offset - anchor_us) for offset in in_band) < 20_000
        # The table: the median of the in-band clock and the anchor agree to -3.8 ms.
        assert np.median(in_band) - anchor_us == pytest.approx(-3_800, abs=100)
