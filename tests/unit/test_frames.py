"""Decoding chunk by chunk gives the very frames that decoding the whole gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from playmill.errors import CorruptVideo, SourceChanged
from playmill.frames import Frame, decode_chunk
from playmill.plan import Chunk, cut
from playmill.testing import draw_frame, make_recording, make_stills, make_video, read_number
from playmill.video_index import VideoIndex, index_video

TB = Fraction(1, 15360)


def write(path: Path, *, count: int = 48, start: int = 0, **options: Any) -> Path:
    """Write a video of 30 frames/s that shows 0, 1, 2, ... with a keyframe every 8 frames."""
    pts = [start + 512 * number for number in range(count)]
    options = {"gop": 8, "time_base": TB, "bframes": 3} | options
    make_video(path, numbers=range(count), pts=pts, **options)
    return path


def decode_whole(path: Path, index: VideoIndex, **options: Any) -> list[Frame]:
    (whole,) = cut(index, target_frames=10**9)
    return list(decode_chunk(path, whole, **options))


def identities(frames: list[Frame]) -> list[tuple[int, bytes]]:
    return [(frame.pts, frame.image.tobytes()) for frame in frames]


def check_every_chunk_length(path: Path, numbers: list[int]) -> tuple[VideoIndex, list[Frame]]:
    """Decode in chunks of every length from one GOP to the whole; compare frame by frame."""
    index = index_video(path)
    whole = decode_whole(path, index)
    assert [read_number(frame.image) for frame in whole] == numbers
    assert [frame.pts for frame in whole] == sorted({frame.pts for frame in whole})
    seen = set()
    for target in (1, 10, 17, 30, 10**9):
        chunks = cut(index, target_frames=target)
        if chunks in seen:
            continue
        seen.add(chunks)
        frames = [frame for chunk in chunks for frame in decode_chunk(path, chunk)]
        assert identities(frames) == identities(whole), f"{target=}"
        assert sum(chunk.num_frames for chunk in chunks) == len(frames)
    return index, whole


FILES = {
    "h264": ("v.mp4", {}),
    "h264-mkv": ("v.mkv", {}),
    "h264-open-gop": ("v.mp4", {"open_gop": True}),
    "h264-open-gop-mkv": ("v.mkv", {"open_gop": True}),
    "h264-annex-b-ts": ("v.ts", {"open_gop": True}),
    "h264-fragmented": ("v.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "h264-fragment-per-frame": (
        "v.mp4",
        {"container_options": {"movflags": "frag_every_frame+empty_moov+default_base_moof"}},
    ),
    "h264-faststart": ("v.mp4", {"container_options": {"movflags": "faststart"}}),
    "h264-flv": ("v.flv", {"time_base": Fraction(1, 15360)}),
    "h264-444": ("v.mp4", {"pixel_format": "yuv444p"}),
    "h264-422": ("v.mp4", {"pixel_format": "yuv422p"}),
    "h264-10bit": ("v.mp4", {"pixel_format": "yuv420p10le"}),
    "h264-gray": ("v.mp4", {"pixel_format": "gray"}),
    "h264-odd-size": ("v.mp4", {"pixel_format": "yuv444p", "size": (67, 49)}),
    "h264-lossless-rgb": ("v.mp4", {"codec": "libx264rgb", "pixel_format": "rgb24"}),
    "hevc": ("v.mp4", {"codec": "hevc"}),
    "hevc-open-gop": ("v.mp4", {"codec": "hevc", "open_gop": True}),
    "hevc-open-gop-mkv": ("v.mkv", {"codec": "hevc", "open_gop": True}),
    "hevc-10bit": ("v.mp4", {"codec": "hevc", "pixel_format": "yuv420p10le"}),
    "vp9-webm": ("v.webm", {"codec": "vp9"}),
    "vp9-mp4": ("v.mp4", {"codec": "vp9"}),
    "vp9-odd-size": ("v.webm", {"codec": "vp9", "size": (67, 49)}),
    "vp9-444": ("v.webm", {"codec": "vp9", "pixel_format": "yuv444p"}),
    "av1-mkv": ("v.mkv", {"codec": "av1"}),
    "av1-webm": ("v.webm", {"codec": "av1"}),
    "av1-mp4": ("v.mp4", {"codec": "av1"}),
    "av1-10bit": ("v.mp4", {"codec": "av1", "pixel_format": "yuv420p10le"}),
    "mpeg4": ("v.mp4", {"codec": "mpeg4", "bframes": 2}),
    "mpeg4-mkv": ("v.mkv", {"codec": "mpeg4", "bframes": 2}),
    "mjpeg": ("v.mkv", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    "ffv1": ("v.mkv", {"codec": "ffv1"}),
    "nonzero-start": ("v.mp4", {"start": 900}),
    "far-start": ("v.mkv", {"start": 15360 * 3600}),
    "audio-is-stream-0": ("v.mp4", {"audio_first": True}),
    "audio-is-stream-0-mkv": ("v.mkv", {"audio_first": True}),
    "one-frame": ("v.mp4", {"count": 1}),
    "one-frame-vp9": ("v.webm", {"count": 1, "codec": "vp9"}),
    "one-gop": ("v.mp4", {"gop": 100}),
}


@pytest.mark.parametrize(("name", "options"), FILES.values(), ids=FILES.keys())
def test_chunks_give_the_frames_of_the_whole(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    path = write(tmp_path / name, **options)
    index, whole = check_every_chunk_length(path, list(range(options.get("count", 48))))
    width, height = options.get("size", (64, 48))
    assert (index.width, index.height) == (width, height)
    assert {frame.image.shape for frame in whole} == {(height, width, 3)}
    assert not any(frame.damaged or frame.repaired for frame in whole)
    if not options.get("gop"):
        assert len(cut(index, target_frames=1)) >= min(len(whole), 48) // 8


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_an_open_gop_keyframe_has_leading_pictures(tmp_path: Path, codec: str) -> None:
    # Given: the files of the test above are what they claim to be
    index = index_video(write(tmp_path / "v.mp4", codec=codec, open_gop=True))
    keys = np.flatnonzero(index.keyframe)[1:]
    # Then: pictures decoded after a keyframe are shown before it
    assert len(keys) == 5
    assert sum((index.pts[key + 1 : key + 4] < index.pts[key]).any() for key in keys) >= 3


def test_variable_frame_rate_and_lost_frames_keep_their_times(tmp_path: Path) -> None:
    made = make_recording(tmp_path / "r", vfr=True, drop=[5, 6, 30], gop=10, bframes=3)
    _, whole = check_every_chunk_length(made.video, list(made.numbers))
    assert tuple(frame.pts for frame in whole) == made.pts


def test_negative_times_are_kept(tmp_path: Path) -> None:
    path = write(
        tmp_path / "v.mp4",
        start=-5120,
        bframes=0,
        container_options={"use_editlist": "0", "movflags": "negative_cts_offsets"},
        container_format="mov",
    )
    index = index_video(path)
    whole = decode_whole(path, index)
    frames = [f for chunk in cut(index, target_frames=1) for f in decode_chunk(path, chunk)]
    assert identities(frames) == identities(whole)


def test_frames_before_an_edit_list_begins_are_not_shown(tmp_path: Path) -> None:
    # Given: an mp4 whose first 10 frames lie before time 0, which its edit list cuts off
    path = write(tmp_path / "v.mp4", start=-5120)
    index = index_video(path)
    assert index.discard.any()
    # Then: the rest comes, whole or in chunks
    check_every_chunk_length(path, list(range(10, 48)))


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
def test_avi_without_pts_is_repaired_in_order(tmp_path: Path, codec: str, bframes: int) -> None:
    path = tmp_path / "v.avi"
    make_video(
        path,
        numbers=range(48),
        pts=range(48),
        time_base=Fraction(1, 30),
        gop=8,
        codec=codec,
        bframes=bframes,
    )
    index, whole = check_every_chunk_length(path, list(range(48)))
    assert set(np.diff([frame.pts for frame in whole])) == {1}
    assert len(cut(index, target_frames=1)) >= 6
    assert any(frame.repaired for frame in whole) == bool(index.repaired.any())


def test_an_open_gop_without_pts_opens_no_chunk(tmp_path: Path) -> None:
    # Given: pictures behind a keyframe are shown before it, and only the decoder knows which
    path = tmp_path / "v.avi"
    numbers, base = range(48), Fraction(1, 30)
    make_video(path, numbers=numbers, pts=numbers, time_base=base, gop=8, open_gop=True)
    # Then: no chunk begins at one, where those pictures would be lost and their times pass on
    index, _ = check_every_chunk_length(path, list(numbers))
    assert index.repaired.all()
    assert len(cut(index, target_frames=1)) == 1


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mpg", "mpeg1video"), ("v.vob", "mpeg2video"), ("v.m2v", "mpeg2video")],
)
def test_mpeg_streams_with_few_pts_are_repaired_in_order(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = tmp_path / name
    base = Fraction(1, 30)
    options = {"g": "8", "bf": "2"}
    make_video(
        path,
        numbers=range(48),
        pts=range(48),
        time_base=base,
        codec=codec,
        codec_options=options,
    )
    index, whole = check_every_chunk_length(path, list(range(48)))
    assert index.repaired.any()
    assert len(set(np.diff([frame.pts for frame in whole]))) == 1
    assert len(cut(index, target_frames=1)) >= 4


def test_a_missing_pts_is_interpolated_and_flagged(tmp_path: Path) -> None:
    # Given: a Matroska-like stream of which one packet's pts was lost
    path = write(tmp_path / "v.mkv", bframes=0)
    index = index_video(path)
    (whole,) = cut(index, target_frames=10**9)
    lost = 5
    between = int(index.pts[4] + index.pts[6]) // 2
    chunk = Chunk.from_json(whole.to_json() | {"repairs": [[lost, between]]})
    # When
    frames = list(decode_chunk(path, chunk))
    # Then
    assert [frame.repaired for frame in frames] == [number == lost for number in range(48)]
    assert frames[lost].pts == between
    assert read_number(frames[lost].image) == lost


def test_a_made_up_pts_in_the_wrong_place_moves_between_its_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", bframes=0)
    (whole,) = cut(index_video(path), target_frames=10**9)
    chunk = Chunk.from_json(whole.to_json() | {"repairs": [[5, 1401]]})
    frames = list(decode_chunk(path, chunk))
    assert [read_number(frame.image) for frame in frames] == list(range(48))
    assert frames[4].pts < frames[5].pts < frames[6].pts


@pytest.mark.parametrize("gop", [24, 12])
def test_a_gradual_refresh_opens_no_chunk(tmp_path: Path, gop: int) -> None:
    options = {"x264-params": f"keyint={gop}:intra-refresh=1:scenecut=0:bframes=0"}
    path = write(tmp_path / "v.mp4", codec_options=options, gop=gop, count=96)
    index, _ = check_every_chunk_length(path, list(range(96)))
    assert len(cut(index, target_frames=1)) == 1
    assert index.warnings[0].startswith("note: decoding cannot start at ")


def test_a_resolution_change_gives_frames_of_both_sizes(tmp_path: Path) -> None:
    # Given: two MPEG-TS files of different size, one behind the other
    one = write(tmp_path / "1.ts", count=24)
    two = tmp_path / "2.ts"
    make_video(
        two,
        numbers=range(24, 48),
        pts=[512 * (n + 9) for n in range(24, 48)],
        time_base=TB,
        gop=8,
        size=(96, 64),
        bframes=3,
    )
    path = tmp_path / "v.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    # Then
    _, whole = check_every_chunk_length(path, list(range(48)))
    assert [frame.image.shape for frame in whole] == [(48, 64, 3)] * 24 + [(64, 96, 3)] * 24


def test_a_resolution_change_inside_matroska(tmp_path: Path) -> None:
    parts = [tmp_path / "1.ts", tmp_path / "2.ts"]
    for part, size, numbers in zip(
        parts, [(64, 48), (96, 64)], [range(24), range(24, 48)], strict=True
    ):
        make_video(
            part,
            numbers=numbers,
            pts=[512 * (n + numbers[0]) for n in numbers],
            time_base=TB,
            gop=8,
            size=size,
            bframes=3,
        )
    path = tmp_path / "v.mkv"
    with av.open(path, "w") as out:
        stream: Any = None
        for part in parts:
            with av.open(part) as container:
                stream = stream or out.add_stream_from_template(container.streams.video[0])
                for packet in container.demux(container.streams.video[0]):
                    if packet.size:
                        packet.stream = stream
                        out.mux(packet)
    _, whole = check_every_chunk_length(path, list(range(48)))
    assert {frame.image.shape for frame in whole} == {(48, 64, 3), (64, 96, 3)}


def test_threads_do_not_change_a_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", open_gop=True)
    index = index_video(path)
    one = identities(decode_whole(path, index, num_threads=1))
    assert identities(decode_whole(path, index, num_threads=4)) == one
    assert identities(decode_whole(path, index, tolerant=True)) == one


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4")
    for name in ("concat:%03d.mp4", "-i.mp4", "http:x.mp4", "ü 録画.mp4", "a\nb.mp4"):
        odd = tmp_path / name
        shutil.copyfile(path, odd)
        assert len(decode_whole(odd, index_video(odd))) == 48


def test_a_swapped_file_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4")
    chunk = cut(index_video(path), target_frames=8)[2]
    write(path, codec_options={"crf": "40"}, gop=11)
    with pytest.raises(SourceChanged, match="as when it was planned"):
        list(decode_chunk(path, chunk))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A video of 6 GOPs with noise in the middle of the third."""
    path = write(tmp_path / "v.mp4", size=(160, 120))
    index = index_video(path)
    data = bytearray(path.read_bytes())
    for packet in (18, 19, 20):
        start = int(index.pos[packet]) + 12
        stop = int(index.pos[packet] + index.size[packet])
        data[start:stop] = np.random.default_rng(0).bytes(stop - start)
    path.write_bytes(data)
    return path


def test_damage_is_an_error_that_names_the_place(broken: Path) -> None:
    chunks = cut(index_video(broken), target_frames=8)
    with pytest.raises(CorruptVideo, match=r"v\.mp4: pts \d+: found .*decod"):
        list(decode_chunk(broken, chunks[2], num_threads=1))
    assert len(list(decode_chunk(broken, chunks[4]))) == 8


def test_tolerant_decoding_goes_on_after_damage(broken: Path) -> None:
    chunks = cut(index_video(broken), target_frames=8)
    frames = [f for chunk in chunks for f in decode_chunk(broken, chunk, tolerant=True)]
    sound = {read_number(frame.image) for frame in frames if not frame.damaged}
    assert sound >= set(range(16)) | set(range(32, 48))
    assert any(frame.damaged for frame in frames)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("v.mkv", {}),
        ("v.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("v.ts", {}),
    ],
    ids=["mkv", "fragmented-mp4", "ts"],
)
def test_a_cut_off_file_gives_what_is_there(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    path = write(tmp_path / name, size=(160, 120), **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    index = index_video(path)
    assert index.warnings or path.suffix == ".ts"  # which has nothing that tells its length
    chunks = cut(index, target_frames=8)
    numbers = [
        read_number(frame.image)
        for chunk in chunks
        for frame in decode_chunk(path, chunk, tolerant=True)
        if not frame.damaged
    ]
    # The last pictures in decode order may be shown after some that are cut off.
    assert numbers[:20] == list(range(20))
    assert numbers == sorted(set(numbers))


def colored(path: Path, matrix: int, full: bool) -> Iterator[Frame]:
    """Write and decode a lossless H.264 video of flat color, tagged with matrix and range."""
    y, u, v = 120, 90, 200
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        planes = np.stack([np.full((48, 64), value, np.uint8) for value in (y, u, v)])
        frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    index = index_video(path)
    return decode_chunk(path, cut(index, target_frames=1)[0])


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("matrix", "kr", "kb"),
    [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (6, 0.299, 0.114), (9, 0.2627, 0.0593)],
    ids=["bt709", "bt601-625", "bt601-525", "bt2020"],
)
def test_colors_follow_the_streams_matrix_and_range(
    tmp_path: Path, matrix: int, kr: float, kb: float, full: bool
) -> None:
    (frame,) = colored(tmp_path / "v.mp4", matrix, full)
    luma = 120 / 255 if full else (120 - 16) / 219
    cb, cr = ((value - 128) / (255 if full else 224) for value in (90, 200))
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    expected = np.clip(np.array([red, green, blue]) * 255, 0, 255)
    assert np.abs(frame.image.reshape(-1, 3) - expected).max() <= 3


def test_untagged_video_is_taken_as_bt601_limited(tmp_path: Path) -> None:
    (untagged,) = colored(tmp_path / "1.mp4", 2, False)
    (tagged,) = colored(tmp_path / "2.mp4", 5, False)
    assert np.array_equal(untagged.image, tagged.image)


STILLS = {
    "rgba": ("rgba", lambda rgb: np.dstack((rgb, np.arange(64) % 3 * 127 + 0 * rgb[..., 0]))),
    "rgb": ("rgb24", lambda rgb: rgb),
    "rgb48": ("rgb48be", lambda rgb: rgb.astype(np.uint16) * 257),
    "gray": ("gray", lambda rgb: rgb[..., 0]),
    "gray16": ("gray16be", lambda rgb: rgb[..., 0].astype(np.uint16) * 257),
}


@pytest.mark.parametrize(("layout", "convert"), STILLS.values(), ids=STILLS.keys())
def test_stills_of_any_kind_become_rgb_and_lose_their_alpha(
    tmp_path: Path, layout: str, convert: Any
) -> None:
    rgb = draw_frame(77)
    pixels = convert(rgb)
    picture = av.VideoFrame.from_ndarray(
        np.ascontiguousarray(
            pixels.astype(np.uint16 if "16" in layout or "48" in layout else np.uint8)
        ),
        format=layout,
    )
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, layout
    encoder.time_base = Fraction(1, 30)
    (tmp_path / "5.png").write_bytes(b"".join(bytes(p) for p in encoder.encode(picture)))
    (frame,) = decode_chunk(tmp_path, cut(index_video(tmp_path), target_frames=9)[0])
    expected = rgb if pixels.ndim == 3 else np.repeat(rgb[..., :1], 3, axis=2)
    assert frame.image.shape == (48, 64, 3)
    assert np.abs(frame.image.astype(int) - expected).max() <= 1


def test_stills_come_by_time_and_one_that_is_unreadable_is_damage(tmp_path: Path) -> None:
    make_stills(tmp_path, numbers=range(6), times_us=[100, 20, 3, 4000, 50000, 600])
    shutil.copyfile(tmp_path / "100.png", tmp_path / "0020.png")
    (tmp_path / "x5.png").write_bytes(b"a name that is no time")
    (tmp_path / "7.txt").write_bytes(b"no picture")
    index = index_video(tmp_path)
    chunks = cut(index, target_frames=2)
    frames = [frame for chunk in chunks for frame in decode_chunk(tmp_path, chunk)]
    assert [frame.pts for frame in frames] == [3, 20, 100, 600, 4000, 50000]
    assert [read_number(frame.image) for frame in frames] == [2, 0, 0, 5, 3, 4]
    (tmp_path / "600.png").write_bytes((tmp_path / "600.png").read_bytes()[:200])
    with pytest.raises(CorruptVideo, match=r"600\.png: pts 600"):
        [list(decode_chunk(tmp_path, chunk)) for chunk in chunks]
    rest = [
        f.pts
        for chunk in chunks
        for f in decode_chunk(tmp_path, chunk, tolerant=True)
        if not f.damaged
    ]
    assert rest == [3, 20, 100, 4000, 50000]


ARRAYS: dict[str, Any] = {
    "rgb": lambda rgb: rgb,
    "alpha": lambda rgb: np.dstack([rgb, rgb[..., :1]]),
    "gray": lambda rgb: rgb[..., 0],
    "by column": lambda rgb: np.asfortranarray(rgb),
}


@pytest.mark.parametrize("convert", ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_pictures_too(tmp_path: Path, convert: Any) -> None:
    rgb = draw_frame(77)
    np.save(tmp_path / "5.npy", convert(rgb))
    index = index_video(tmp_path)
    assert (index.codec, index.width, index.height) == ("npy", 64, 48)
    (frame,) = decode_chunk(tmp_path, cut(index, target_frames=9)[0])
    gray = np.repeat(rgb[..., :1], 3, axis=2)
    assert np.array_equal(frame.image, gray if convert(rgb).ndim == 2 else rgb)


NO_PICTURES: dict[str, Any] = {
    "pickled": np.array([{"a": 1}], object),
    "floats": np.zeros((4, 4, 3)),
    "five channels": np.zeros((4, 4, 5), np.uint8),
    "a row": np.zeros(7, np.uint8),
    "empty": np.zeros((0, 4, 3), np.uint8),
}


@pytest.mark.parametrize("array", NO_PICTURES.values(), ids=NO_PICTURES)
def test_an_array_that_is_no_picture_is_damage(tmp_path: Path, array: Any) -> None:
    for time_us in (5, 6, 7):
        np.save(tmp_path / f"{time_us}.npy", draw_frame(time_us))
    chunk = cut(index_video(tmp_path), target_frames=9)[0]
    np.save(tmp_path / "6.npy", array, allow_pickle=True)
    with pytest.raises(CorruptVideo, match=r"6\.npy: pts 6: found no readable picture \("):
        list(decode_chunk(tmp_path, chunk))
    (tmp_path / "6.npy").write_bytes((tmp_path / "5.npy").read_bytes()[:-1])
    with pytest.raises(CorruptVideo, match="an array that is cut off"):
        list(decode_chunk(tmp_path, chunk))
    assert [frame.pts for frame in decode_chunk(tmp_path, chunk, tolerant=True)] == [5, 7]


SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", ["doom-640x480/video.mp4", "owa/0.3.2.mkv"])
def test_real_recordings_decode_in_chunks(name: str) -> None:
    path = SHARED / name
    index = index_video(path)
    frames = [f for chunk in cut(index, target_frames=200) for f in decode_chunk(path, chunk)]
    assert len(frames) == len(index)
