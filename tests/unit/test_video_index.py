"""The index tells what lies in a file, by demuxing alone."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from playmill.decoding.keyframes import CLOSED, OPEN, RECOVERY, key_reader
from playmill.decoding.missing_pts import NO_TIME, repair_pts
from playmill.decoding.source_file import SourceFile
from playmill.errors import CorruptVideo, MissingStream, SourceChanged
from playmill.testing import draw_frame, make_recording, make_stills, make_video
from playmill.video_index import index_video

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
def test_the_digest_is_the_files_sha256(tmp_path: Path, container: str) -> None:
    base = Fraction(1, 30) if container == "avi" else Fraction(1, 90000)
    made = make_recording(tmp_path / "r", container=container, time_base=base)
    index = index_video(made.video)
    assert index.digest == hashlib.sha256(made.video.read_bytes()).hexdigest()
    assert index.size.sum() < made.video.stat().st_size


def test_the_index_tells_packets_times_and_keyframes(tmp_path: Path) -> None:
    made = make_recording(tmp_path / "r", seconds=1, gop=10, start_pts=900)
    index = index_video(made.video)
    assert (index.codec, index.width, index.height) == ("h264", 64, 48)
    assert index.time_base == Fraction(1, 90000)
    assert sorted(index.pts.tolist()) == list(made.pts)
    assert np.flatnonzero(index.keyframe).tolist() == [0, 10, 20]
    assert index.clean.tolist() == index.keyframe.tolist()
    assert not index.repaired.any()
    assert not index.discard.any()
    assert index.warnings == ()
    assert repr(index).endswith("h264, 30 packets)")


def test_arrays_are_read_only(tmp_path: Path) -> None:
    index = index_video(make_recording(tmp_path / "r", seconds=0.2).video)
    with pytest.raises(ValueError, match="read-only"):
        index.pts[0] = 1


def test_sound_in_stream_0_is_passed_over(tmp_path: Path) -> None:
    made = make_recording(tmp_path / "r", audio_first=True)
    with av.open(made.video) as container:
        assert container.streams[0].type == "audio"
    assert len(index_video(made.video)) == len(made.numbers)


def test_packets_wrongly_marked_as_keyframes_are_not_believed(tmp_path: Path) -> None:
    # Given: a Matroska file whose every block is marked as a keyframe, as some recorders do
    made = make_recording(tmp_path / "r", codec="hevc", bframes=0, container="mkv")
    path = tmp_path / "all-keys.mkv"
    data = bytearray(made.video.read_bytes())
    for pos in index_video(made.video).pos.tolist():
        assert data[pos] == 0x81  # a block of track 1; behind it two bytes of time, and flags
        data[pos + 3] |= 0x80
    path.write_bytes(data)
    index = index_video(path)
    assert np.flatnonzero(index.keyframe).tolist() == [0, 15, 30, 45]
    assert "decoding cannot start at 56 packets marked as a keyframe" in index.warnings[0]


def no_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(50_000))


def without_moov(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (no_file, MissingStream, "no such file"),
        (empty, CorruptVideo, "an empty file"),
        (noise, CorruptVideo, "50000 bytes that cannot be opened"),
        (without_moov, CorruptVideo, "2000 bytes that cannot be opened"),
    ],
    ids=["no-file", "empty", "noise", "without-moov"],
)
def test_unusable_files_are_errors_that_say_what_was_found(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    made = make_recording(tmp_path / "r", seconds=1)
    spoil(made.video)
    with pytest.raises(error, match=message):
        index_video(made.video)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    made = make_recording(tmp_path / "r", audio_first=True)
    path = tmp_path / "sound.mp4"
    with av.open(made.video) as source, av.open(path, "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    with pytest.raises(MissingStream, match=r"no video stream \(audio\)"):
        index_video(path)


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    made = make_recording(tmp_path / "r")

    def grow() -> None:
        with made.video.open("ab") as file:
            file.write(b"more")

    with pytest.raises(SourceChanged, match="as when it was opened"):
        index_video(made.video, on_progress=grow)


def test_a_file_touched_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    with SourceFile(path, hashing=True) as file:
        file.read(2)
        os.utime(path, ns=(1, 1))
        with pytest.raises(SourceChanged, match="3 bytes, changed at 1 ns"):
            file.digest()


def test_a_place_before_the_file_is_an_answer_to_ffmpeg_and_no_error(tmp_path: Path) -> None:
    # A file that is cut off has an index that leads there; FFmpeg then does without it.
    path = tmp_path / "v"
    path.write_bytes(b"0123456789")
    with SourceFile(path) as file:
        file.seek(4)
        assert file.seek(-7) == -errno.EINVAL
        assert file.read() == b"456789"


@pytest.mark.parametrize(
    ("codec", "open_gop", "worth"),
    [
        ("h264", False, {CLOSED}),
        ("h264", True, {CLOSED, RECOVERY}),
        ("hevc", False, {CLOSED}),
        ("hevc", True, {CLOSED, OPEN}),
    ],
)
def test_what_a_keyframe_is_worth(
    tmp_path: Path, codec: str, open_gop: bool, worth: set[int]
) -> None:
    made = make_recording(tmp_path / "r", codec=codec, open_gop=open_gop)
    with av.open(made.video) as container:
        parameters = container.streams.video[0].codec_context.extradata or b""
        read = key_reader(codec, parameters)
        keys = [packet for packet in container.demux(video=0) if packet.is_keyframe]
    assert {read(packet) for packet in keys} == worth


def test_bytes_are_hashed_once_each_whatever_order_they_are_read_in(tmp_path: Path) -> None:
    data = np.random.default_rng(1).bytes(10_000)
    (tmp_path / "f").write_bytes(data)
    with SourceFile(tmp_path / "f", hashing=True) as file:
        for start, count in ((0, 10), (5000, 100), (5, 200), (100, 50), (205, 5000), (9990, 100)):
            file.seek(start)
            assert file.read(count) == data[start : start + count]
        assert file.digest() == hashlib.sha256(data).hexdigest()


def test_stills_have_their_names_as_times(tmp_path: Path) -> None:
    make_stills(tmp_path, numbers=range(3), times_us=[300, 20, 1_700_000_000_000_000])
    shutil.copyfile(tmp_path / "20.png", tmp_path / "notes.png")
    shutil.copyfile(tmp_path / "20.png", tmp_path / "-20.png")
    (tmp_path / "40.png").mkdir()
    index = index_video(tmp_path)
    assert index.pts.tolist() == [20, 300, 1_700_000_000_000_000]
    assert index.time_base == Fraction(1, 1_000_000)
    assert index.keyframe.all()
    assert (index.codec, index.width, index.height) == ("png", 64, 48)


def test_the_digest_of_stills_covers_names_and_pictures(tmp_path: Path) -> None:
    make_stills(tmp_path, numbers=range(3), times_us=[10, 20, 30])
    digests = {index_video(tmp_path).digest}
    (tmp_path / "x.txt").write_text("no picture")
    assert index_video(tmp_path).digest in digests
    (tmp_path / "10.png").rename(tmp_path / "11.png")
    digests.add(index_video(tmp_path).digest)
    make_stills(tmp_path, numbers=[9], times_us=[11])
    digests.add(index_video(tmp_path).digest)
    assert len(digests) == 3


def test_a_folder_without_stills_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(MissingStream, match="no still picture"):
        index_video(tmp_path)


def test_stills_none_of_which_can_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    with pytest.raises(CorruptVideo, match="1 pictures, none of them readable"):
        index_video(tmp_path)


NO = NO_TIME


@pytest.mark.parametrize(
    ("pts", "dts", "repaired"),
    [
        ([NO, NO, NO], [0, 1, 2], [0, 1, 2]),
        ([NO, NO, NO], [NO, NO, NO], [0, 1, 2]),
        ([NO, NO, 2, 3, NO], [0, 1, 2, 3, 4], [1, 4, 2, 3, 5]),
        ([1, NO, 2, 3, NO, 5], [0, 1, 2, 3, 4, 5], [1, 4, 2, 3, 6, 5]),
        ([0, 10, NO, 30], [NO] * 4, [0, 10, 20, 30]),
        ([0, 40, NO, 10, 30], [NO] * 5, [0, 40, 20, 10, 30]),
        ([0, 10, NO], [NO] * 3, [0, 10, 20]),
        ([0, NO, NO, 30], [NO] * 4, [0, 15, 7, 30]),
    ],
    ids=[
        "no-pts",
        "no-time",
        "avi-b-frames",
        "mpeg-program-stream",
        "one",
        "one-reordered",
        "last",
        "two",
    ],
)
def test_missing_pts_are_made_up(pts: list[int], dts: list[int], repaired: list[int]) -> None:
    made_up = repair_pts(np.array(pts, np.int64), np.array(dts, np.int64))
    assert made_up.tolist() == repaired


@pytest.mark.parametrize(("name", "codec"), [("v.h264", "h264"), ("v.hevc", "hevc")])
def test_a_raw_stream_without_any_time_is_an_error(tmp_path: Path, name: str, codec: str) -> None:
    make_video(
        tmp_path / name, numbers=range(5), pts=range(5), time_base=Fraction(1, 30), codec=codec
    )
    with pytest.raises(CorruptVideo, match="5 packets without any time"):
        index_video(tmp_path / name)


def test_a_short_matroska_file_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    make_video(path, numbers=range(30), pts=range(30), time_base=Fraction(1, 30))
    assert index_video(path).warnings == ()
    path.write_bytes(path.read_bytes()[:-700])
    assert "700 bytes are missing at its end" in index_video(path).warnings[0]


SUBTITLE_HEADER = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, Alignment
Style: Default,Arial,16,2
[Events]
Format: Layer, Start, End, Style, Text
"""


def test_a_wall_clock_in_a_subtitle_track_is_read(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text = container.add_stream("srt")
        text.codec_context.subtitle_header = SUBTITLE_HEADER
        text.time_base = Fraction(1, 1000)
        container.start_encoding()
        for second, said in enumerate([b"1750427724474558600", b"hello", b"1750427726474558400"]):
            frame = av.VideoFrame.from_ndarray(draw_frame(second), format="rgb24")
            frame.pts, frame.time_base = second * 30, Fraction(1, 30)
            container.mux(video.encode(frame))
            packet = av.Packet(said)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = second * 1000 + 10
            packet.duration = 1000
            container.mux(packet)
        container.mux(video.encode(None))
    # In microseconds: container time, Unix time to the nearest.
    assert index_video(path).clock_marks.tolist() == [
        [10_000, 1750427724474559],
        [2_010_000, 1750427726474558],
    ]


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("audio-only-mp4", MissingStream),
        ("truncated-mp4", CorruptVideo),
        ("zero-byte-mp4", CorruptVideo),
    ],
)
def test_hostile_videos_are_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        index_video(SHARED / "hostile" / name / "video.mp4")
