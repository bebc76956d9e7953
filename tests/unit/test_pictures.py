"""Pictures scaled as planes are those that full-size RGB gives, nearly, in every pixel format."""

from __future__ import annotations

import gc
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from playmill import encoders
from playmill.decoding.pictures import (
    MIN_REDUCTION,
    PLANAR_FORMATS,
    GrayConverter,
    PictureReader,
    scales_planes,
)
from playmill.frame_processor import FrameProcessor, resize
from playmill.frames import decode_chunk
from playmill.plan import cut
from playmill.testing import make_video
from playmill.video_index import index_video
from tests.conftest import SHARED

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (64, 80)


def scene(height: int = 360, width: int = 480) -> NDArray[np.uint8]:
    """Draw walls, stripes, text-like noise and strong colors, as games have them."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:height, :width]
    waves = 120 + 90 * np.sin(rows / 31) * np.cos(columns / 47)
    image = np.stack((waves, waves[::-1], 0.5 * waves + 40), axis=-1)
    image[height // 5 : height // 3, : width // 2] = (200, 30, 20)
    image[height // 2 :, width // 2 :: 16] = (10, 160, 240)
    image[-height // 6 :] = rng.integers(60, 200, (1, width, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def as_frame(image: NDArray[np.uint8], layout: str, **tags: int) -> av.VideoFrame:
    """Return a picture as a decoder would give it in the pixel format `layout`."""
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=layout, **tags)
    for tag, value in tags.items():
        setattr(frame, tag.removeprefix("dst_"), value)
    return frame


@pytest.mark.parametrize("layout", sorted(PLANAR_FORMATS))
def test_every_planar_format_gives_what_full_size_rgb_gives(layout: str) -> None:
    frame = as_frame(scene(), layout)
    whole, small = PictureReader((None, SIZE))(frame)
    assert small.shape == (*SIZE, 3)
    assert small.flags.c_contiguous
    expected = resize([whole], size=SIZE)[0].astype(int)
    difference = np.abs(small - expected)
    # The unscaled converter rounds downwards, up to 3 levels; edges of color move a little.
    assert difference.mean() < 1.6
    assert np.percentile(difference, 99) <= 6
    assert np.corrcoef(small.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("layout", ["rgb24", "rgba", "gbrp", "pal8", "yuva420p", "yuv410p"])
def test_a_rare_format_comes_whole_and_once(layout: str) -> None:
    image = scene()
    if layout == "pal8":
        frame = av.VideoFrame.from_ndarray(image[..., 0] // 2, format="gray").reformat(
            format="bgr8"
        )
    else:
        frame = as_frame(image, layout)
    one, other, third = PictureReader((SIZE, None, (16, 16)))(frame)
    assert one.shape == image.shape
    assert one is other is third


def test_alpha_is_dropped_not_composited() -> None:
    image = np.dstack((scene(), np.zeros((360, 480), np.uint8)))
    frame = av.VideoFrame.from_ndarray(image, format="rgba")
    np.testing.assert_array_equal(PictureReader((SIZE,))(frame)[0], scene())


@pytest.mark.parametrize(
    ("size", "scaled"),
    [((64, 80), True), ((146, 147), True), ((150, 150), False), ((400, 50), False)],
    ids=["small", "just", "large", "higher"],
)
def test_only_what_shrinks_by_much_is_scaled_as_planes(size: tuple[int, int], scaled: bool) -> None:
    frame = as_frame(scene(), "yuv420p")
    assert scales_planes(frame, size) == scaled
    (found,) = PictureReader((size,))(frame)
    assert found.shape[:2] == (size if scaled else (360, 480))
    assert (MIN_REDUCTION * size[0] * size[1] <= 360 * 480 and size[0] <= 360) == scaled


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    ("matrix", "kr", "kb"),
    [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (6, 0.299, 0.114), (9, 0.2627, 0.0593),
     (2, 0.299, 0.114)],
    ids=["bt709", "bt601-625", "bt601-525", "bt2020", "untagged"],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv444p", "nv12", "yuv420p10le"])
def test_colors_follow_matrix_and_range(
    layout: str, matrix: int, kr: float, kb: float, full: bool
) -> None:
    y, u, v = 120, 90, 200
    planes = np.stack([np.full((96, 128), value, np.uint8) for value in (y, u, v)])
    frame = av.VideoFrame.from_ndarray(planes, format="yuv444p").reformat(format=layout)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    luma = y / 255 if full else (y - 16) / 219
    cb, cr = ((value - 128) / (255 if full else 224) for value in (u, v))
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    expected = np.clip(np.array([red, green, blue]) * 255, 0, 255)
    (found,) = PictureReader(((24, 32),))(frame)
    assert np.abs(found.reshape(-1, 3) - expected).max() <= 1


def test_a_stream_without_range_is_limited() -> None:
    planes = np.stack([np.full((96, 128), value, np.uint8) for value in (16, 128, 128)])
    frame = av.VideoFrame.from_ndarray(planes, format="yuv444p").reformat(format="yuv420p")
    assert PictureReader(((16, 16),))(frame)[0].max() == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"codec": "hevc", "pixel_format": "yuv420p10le"}, {"pixel_format": "yuv444p"}],
    ids=["h264", "hevc-10bit", "h264-444"],
)
def test_chunks_give_the_scaled_pictures_of_the_whole(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "v.mp4"
    pts = [512 * number for number in range(48)]
    make_video(
        path,
        numbers=range(48),
        pts=pts,
        time_base=Fraction(1, 15360),
        gop=8,
        open_gop=True,
        size=(320, 240),
        **options,
    )
    index = index_video(path)
    sizes = ((32, 32), (60, 80), None)

    def decoded(target: int, threads: int) -> list[tuple[int, list[bytes]]]:
        return [
            (frame.pts, [image.tobytes() for image in frame.images])
            for chunk in cut(index, target_frames=target)
            for frame in decode_chunk(path, chunk, sizes=sizes, num_threads=threads)
        ]

    whole = decoded(10**9, 2)
    assert len(whole) == 48
    assert decoded(1, 1) == decoded(17, 4) == whole


def test_a_change_of_size_on_the_way_is_followed() -> None:
    read = PictureReader((SIZE,))
    first = read(as_frame(scene(), "yuv420p"))[0]
    other = read(as_frame(scene(720, 960), "yuv444p"))[0]
    assert other.shape == first.shape
    np.testing.assert_array_equal(read(as_frame(scene(), "yuv420p"))[0], first)


def turned_video(path: Path, matrix: tuple[int, ...], image: NDArray[np.uint8]) -> Path:
    """Write an mp4 of one picture with the matrix (a, b, c, d) in its track's header."""
    height, width = image.shape[:2]
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264rgb", rate=30, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    one = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    at = data.index(one, data.index(b"tkhd"))
    a, b, c, d = (65536 * value for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((1, 1, -1, 1), lambda image: image),
    ],
    ids=["none", "clockwise", "half", "counterclockwise", "mirror", "flip", "transpose", "odd"],
)
def test_pictures_are_turned_as_players_show_them(
    tmp_path: Path, matrix: tuple[int, ...], shown: Any
) -> None:
    # Given: a picture three quarters of which differ, in a file that says how it is shown
    image = scene()
    path = turned_video(tmp_path / "v.mp4", matrix, image)
    index = index_video(path)
    (chunk,) = cut(index, target_frames=1)
    # When
    (frame,) = decode_chunk(path, chunk)
    # Then: whole, and small for the motion
    np.testing.assert_array_equal(frame.image, shown(image))
    small = GrayConverter()(av.VideoFrame.from_ndarray(np.ascontiguousarray(shown(image))))
    assert np.abs(frame.glance.astype(int) - small).mean() < 2


def test_pictures_do_not_wait_for_garbage_collection() -> None:
    # Whole pictures that did would be hundreds of megabytes.
    gc.collect()
    gc.disable()
    try:
        read, gray = PictureReader((SIZE,)), GrayConverter()
        for _ in range(20):
            picture = av.VideoFrame.from_ndarray(scene(), format="rgb24")
            read(picture)
            gray(picture)
        del picture
        alive = sum(type(found) is av.VideoFrame for found in gc.get_objects())
    finally:
        gc.enable()
    assert alive <= 2  # the first one that each of the two has seen


def test_a_turned_picture_is_scaled_as_planes_too(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    rgb = turned_video(tmp_path / "rgb.mp4", (0, 1, -1, 0), scene())
    with av.open(rgb) as given, av.open(path, "w") as made:
        stream: Any = made.add_stream("libx264", rate=30, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 480, 360, "yuv420p"
        stream.set_display_rotation(-90)
        for picture in given.decode(video=0):
            made.mux(stream.encode(picture.reformat(format="yuv420p")))
        made.mux(stream.encode(None))
    (chunk,) = cut(index_video(path), target_frames=1)
    (frame,) = decode_chunk(path, chunk, sizes=(SIZE, None))
    small, whole = frame.images
    assert small.shape == (*SIZE, 3)
    assert whole.shape == (480, 360, 3)
    assert np.abs(small - resize([whole], size=SIZE)[0].astype(int)).mean() < 2


# Fidelity of features, against the reference path: full-size RGB, torchvision's Resize, fp32,
# one frame at a time.

RECORDINGS = [
    "bench/doom-1280x720-5min/video.mp4",
    "bench/doom-1920x1080-60fps/video.mp4",
    "doom-640x480/video.mp4",
    "breakout-320x420/video.mp4",
    "vpt",
    "owa/0.3.2.mkv",
    "minecraft-agent/build_pillar_0.mp4",
    "hostile/missing-session-json/video.mp4",
    "hostile/odd-dimensions/video.mp4",
]


def spread_frames(path: Path, count: int) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        step = max(1, min(stream.frames or 49, 900) // count)
        frames = []
        for number, frame in enumerate(container.decode(stream)):
            if number % step == 0:
                frames.append(frame)
            if len(frames) == count:
                break
        return frames


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", RECORDINGS)
def test_features_are_those_of_the_reference_path(name: str) -> None:
    from torchvision.transforms import Resize

    path = SHARED / "recordings" / name
    frames = spread_frames(next(path.glob("*.mp4")) if path.is_dir() else path, 16)
    encoder = encoders.load("efficientnet_lite0", device="cpu")
    mean, std = (
        torch.tensor(value)[:, None, None] for value in (encoder.spec.mean, encoder.spec.std)
    )
    reference = []
    for frame in frames:
        rgb = frame.to_ndarray(format="rgb24")
        small = Resize((224, 224))(torch.from_numpy(rgb).permute(2, 0, 1).contiguous())
        with torch.no_grad():
            reference.append(encoder.module(((small / 255 - mean) / std)[None])[0])
    processor = FrameProcessor.from_encoder(encoder, batch_size=4)
    read = PictureReader((processor.model_input_size,))
    pictures = processor.resize([read(frame)[0] for frame in frames])
    found = np.concatenate(
        [processor.extract(pictures[start : start + 4]) for start in range(0, len(pictures), 4)]
    )
    cosine = torch.nn.functional.cosine_similarity(
        torch.from_numpy(found).float(), torch.stack(reference)
    )
    print(f"{name}: cosine mean {cosine.mean():.5f}, min {cosine.min():.5f}")
    assert cosine.mean() >= 0.998
    assert cosine.min() >= 0.99
