"""Decoding on NVDEC gives what the CPU gives, says who decoded, and gives way where it cannot.

Without a GPU a stand-in takes the driver's place (nvdec_driver.c): all but the decoding of bits is
FFmpeg's and ours, as it is with a GPU.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import av
import numpy as np
import pytest
from av.codec.context import CodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from playmill import encoders
from playmill.config import PipelineConfig
from playmill.decoding import nvdec
from playmill.decoding.pictures import GrayConverter, PictureReader
from playmill.decoding.process import DecodeProcess
from playmill.errors import CorruptVideo, DecoderUnavailable
from playmill.extraction import Extractor
from playmill.frame_processor import FrameProcessor
from playmill.frames import Frame, decoder_version
from playmill.manifest import make_manifest
from playmill.plan import cut
from playmill.recording import read_recording
from playmill.store import Store
from playmill.testing import make_video
from playmill.video_index import index_video
from tasks import extract
from tasks.fit import Misfit, needed_here

SIZES = (None, (16, 16))
TB = Fraction(1, 15360)
SEMIPLANAR = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}


def write(path: Path, *, count: int = 24, **options: Any) -> Path:
    """Write a video with a keyframe every 8 frames."""
    options = {"gop": 8, "time_base": TB, "bframes": 3} | options
    numbers = range(count)
    make_video(path, numbers=numbers, pts=[512 * number for number in numbers], **options)
    return path


# The stand-in


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the stand-in's libraries."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("nvdec_driver.c")
    target = folder / "libcuda.so.1"
    subprocess.run([compiler, "-w", "-shared", "-fPIC", source, "-o", target], check=True)
    (folder / "libnvcuvid.so.1").symlink_to(target.name)
    return folder


Driver: TypeAlias = "Callable[..., None]"
"""Makes the stand-in ready to decode the sample, and then these videos."""


@pytest.fixture
def driver(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Put the stand-in in the driver's place."""
    pictures = tmp_path / "pictures"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("STAND_IN_PICTURES", str(pictures))

    def ready(*videos: Path) -> None:
        with pictures.open("wb") as file:
            file.writelines(surfaces(CodecContext.create("h264", "r"), nvdec.sample()))
            for video in videos:
                with av.open(video) as container:
                    stream = container.streams.video[0]
                    packets = [packet for packet in container.demux(stream) if packet.size]
                    file.writelines(surfaces(stream.codec_context, packets))

    return ready


def surfaces(context: Any, packets: list[Any]) -> Iterator[bytes]:
    """Decode on the CPU; yield pictures as they lie in NVDEC's memory, in decoding order."""
    shown = [picture for packet in (*packets, None) for picture in context.decode(packet)]
    by_pts = {picture.pts: picture for picture in shown}
    # A surface has the size that the stream is coded in, its rows are aligned.
    rows = (context.coded_height + 1) // 2 * 2
    for packet in packets:
        picture = by_pts[packet.pts]
        picture = picture.reformat(format=SEMIPLANAR[picture.format.name], threads=1)
        item = 2 if picture.format.name == "p010le" else 1
        surface = np.zeros((rows * 3 // 2, -(-context.coded_width * item // 64) * 64), np.uint8)
        for plane, top in zip(picture.planes, (0, rows), strict=True):
            values = plane_values(plane, (picture.width + 1) // 2 * 2 * item)
            surface[top : top + len(values), : values.shape[1]] = values
        yield struct.pack("@L", surface.nbytes) + surface.tobytes()


def plane_values(plane: Any, width: int) -> NDArray[np.uint8]:
    """Return the rows of a plane, `width` bytes each."""
    shape, strides = (plane.height, width), (plane.line_size, 1)
    return np.ndarray(shape, np.uint8, buffer=memoryview(plane), strides=strides)


def decoded(process: DecodeProcess, video: Path, *, target: int = 10**9) -> list[Frame]:
    chunks = cut(index_video(video), target_frames=target)
    return [frame for chunk in chunks for frame in process.frames(video, chunk, sizes=SIZES)]


def contents(frames: list[Frame]) -> list[tuple[Any, ...]]:
    """Return all of frames but who decoded them."""
    return [
        (
            frame.pts,
            [(image.shape, image.tobytes()) for image in frame.images],
            frame.glance.tobytes(),
            frame.repaired,
            frame.damaged,
        )
        for frame in frames
    ]


@pytest.fixture(scope="module")
def cpu() -> Iterator[DecodeProcess]:
    with DecodeProcess() as process:
        yield process


DECODED = {
    "h264": ("v.mp4", {}),
    "h264-open-gop": ("v.mp4", {"open_gop": True}),
    "h264-ts": ("v.ts", {}),
    "h264-full-range": ("v.mp4", {"pixel_format": "yuvj420p"}),
    "h264-cropped": ("v.mp4", {"size": (98, 50)}),
    "h264-scaled": ("v.mp4", {"size": (320, 240)}),
    "hevc": ("v.mp4", {"codec": "hevc"}),
    "hevc-10bit": ("v.mp4", {"codec": "hevc", "pixel_format": "yuv420p10le"}),
    "vp9": ("v.webm", {"codec": "vp9"}),
    "vp8": ("v.webm", {"codec": "libvpx"}),
}


@pytest.mark.parametrize(("name", "options"), DECODED.values(), ids=DECODED.keys())
def test_what_nvdec_decodes_is_what_the_cpu_decodes(
    tmp_path: Path, driver: Driver, cpu: DecodeProcess, name: str, options: dict[str, Any]
) -> None:
    video = write(tmp_path / name, **options)
    driver(video)
    with DecodeProcess(kind="nvdec") as process:
        frames = decoded(process, video)
    assert {frame.decoder for frame in frames} == {"nvdec"}
    assert contents(frames) == contents(decoded(cpu, video))
    assert len(frames) == 24


def test_turned_and_tagged_pictures_are_as_the_cpu_gives_them(
    tmp_path: Path, driver: Driver, cpu: DecodeProcess
) -> None:
    # Given: a video that says how it is turned and what its colors mean
    video = tmp_path / "v.mp4"
    with av.open(write(tmp_path / "plain.mp4", count=8)) as plain, av.open(video, "w") as made:
        stream: Any = made.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = stream.codec_context.color_primaries = 1
        stream.codec_context.color_range = 2
        stream.set_display_rotation(-90)
        for picture in plain.decode(video=0):
            made.mux(stream.encode(picture))
        made.mux(stream.encode(None))
    driver(video)
    # When
    with DecodeProcess(kind="nvdec") as process:
        frames = decoded(process, video)
    # Then
    assert {(frame.decoder, frame.image.shape) for frame in frames} == {("nvdec", (64, 48, 3))}
    assert contents(frames) == contents(decoded(cpu, video))


def test_chunks_are_decoded_one_after_the_other(
    tmp_path: Path, driver: Driver, cpu: DecodeProcess
) -> None:
    video = write(tmp_path / "v.mp4")
    driver(video)
    with DecodeProcess(kind="nvdec") as process:
        frames = decoded(process, video, target=8)
    assert {frame.decoder for frame in frames} == {"nvdec"}
    assert contents(frames) == contents(decoded(cpu, video))


LEFT_TO_THE_CPU = {
    "h264-444": ("v.mp4", {"pixel_format": "yuv444p"}),
    "h264-10bit": ("v.mp4", {"pixel_format": "yuv420p10le"}),
    "h264-lossless-rgb": ("v.mp4", {"codec": "libx264rgb", "pixel_format": "rgb24"}),
    "h264-too-small": ("v.mp4", {"size": (32, 32)}),
    "vp9-odd-size": ("v.webm", {"codec": "vp9", "size": (67, 49)}),
    "av1": ("v.mkv", {"codec": "av1"}),
    "mpeg4": ("v.mp4", {"codec": "mpeg4", "bframes": 2}),
    "mjpeg": ("v.mkv", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    "ffv1": ("v.mkv", {"codec": "ffv1"}),
}


@pytest.mark.parametrize(("name", "options"), LEFT_TO_THE_CPU.values(), ids=LEFT_TO_THE_CPU.keys())
def test_what_nvdec_does_not_decode_the_cpu_does_and_says_so(
    tmp_path: Path, driver: Driver, cpu: DecodeProcess, name: str, options: dict[str, Any]
) -> None:
    video = write(tmp_path / name, count=16, **options)
    driver()
    with DecodeProcess(kind="nvdec") as process:
        frames = decoded(process, video)
    assert {frame.decoder for frame in frames} == {"cpu"}
    assert contents(frames) == contents(decoded(cpu, video))


def two_sizes(folder: Path, second: tuple[int, int]) -> Path:
    """Write an MPEG-TS of 64x48 whose second half has another size."""
    one = write(folder / "1.ts", count=24)
    two = folder / "2.ts"
    pts = [512 * (number + 9) for number in range(24, 48)]
    make_video(two, numbers=range(24, 48), pts=pts, time_base=TB, gop=8, size=second, bframes=3)
    video = folder / "v.ts"
    video.write_bytes(one.read_bytes() + two.read_bytes())
    return video


def extracted(video: Path, process: DecodeProcess, folder: Path, config: PipelineConfig) -> Any:
    """Extract a video as one chunk: its commit."""
    encoder = encoders.load(config.encoder, device="cpu")
    recording = read_recording(video, identity="r", config=config)
    manifest = make_manifest(recording, config, index=index_video, encoder=encoder.spec)
    processor = FrameProcessor.from_encoder(encoder, batch_size=4, num_threads=1)
    (chunk,) = manifest.chunks
    return Extractor(processor, process).extract(video, chunk, manifest, folder=folder)


CONFIG = PipelineConfig(
    encoder="mean_pixel", device_class="cuda", decoder="nvdec", chunk_frames=10**6, pts_zero_us=0
)


def test_a_commit_names_the_decoder_that_decoded(
    tmp_path: Path, driver: Driver, cpu: DecodeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    # Given: of two videos NVDEC decodes one
    one, other = write(tmp_path / "1.mp4"), write(tmp_path / "2.mkv", codec="ffv1")
    driver(one)
    with DecodeProcess(kind="nvdec") as process:
        # When
        ours = extracted(one, process, tmp_path / "a", CONFIG)
        assert not caplog.messages
        left = extracted(other, process, tmp_path / "b", CONFIG)
    # Then
    assert ours.decoder == decoder_version("nvdec") == f"{decoder_version()}, nvdec"
    assert left.decoder == decoder_version()
    (message,) = caplog.messages
    assert message.endswith(": decoded by cpu, as nvdec gave no frame of it")
    assert ours.digests == extracted(one, cpu, tmp_path / "c", CONFIG).digests
    assert not ours.warnings + left.warnings


def test_a_chunk_that_nvdec_cannot_end_is_the_cpus(
    tmp_path: Path, driver: Driver, cpu: DecodeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    # Given: pictures become smaller than NVDEC decodes them
    video = two_sizes(tmp_path, (32, 32))
    driver(write(tmp_path / "1.ts"))
    process = DecodeProcess(kind="nvdec")
    with process, pytest.raises(CorruptVideo, match="a decoder error"):
        decoded(process, video)
    # When: it is extracted
    with DecodeProcess(kind="nvdec") as process:
        commit = extracted(video, process, tmp_path / "a", CONFIG)
    # Then: all of it is decoded by the CPU, and by nobody else in name
    assert commit.decoder == decoder_version()
    assert commit.digests == extracted(video, cpu, tmp_path / "b", CONFIG).digests
    assert len(commit.pts) == 48
    assert "is decoded again: " in caplog.text


def test_damage_within_a_picture_is_seen_by_the_cpu_alone(
    tmp_path: Path, driver: Driver, cpu: DecodeProcess
) -> None:
    # Given: a picture whose last bits are noise
    video = write(tmp_path / "v.mp4", size=(160, 128))
    driver(video)
    index = index_video(video)
    content = bytearray(video.read_bytes())
    stop = int(index.pos[16] + index.size[16]) - 4
    content[stop - 60 : stop] = np.random.default_rng(0).integers(4, 256, 60, np.uint8).tobytes()
    video.write_bytes(content)
    # Then
    with pytest.raises(CorruptVideo, match="a picture with decoding errors"):
        decoded(cpu, video)
    with DecodeProcess(kind="nvdec") as process:
        frames = decoded(process, video)
    assert not any(frame.damaged for frame in frames)


def test_a_second_tolerant_decoding_is_the_cpus(tmp_path: Path, driver: Driver) -> None:
    video = write(tmp_path / "v.mp4")
    (chunk,) = cut(index_video(video), target_frames=10**9)
    with DecodeProcess(kind="nvdec") as process:
        frames = list(process.frames(video, chunk, tolerant=True))
    assert {frame.decoder for frame in frames} == {"cpu"}


# Where there is none


def refusal(process: DecodeProcess) -> str:
    with process, pytest.raises(DecoderUnavailable) as caught:
        process.check()
    return str(caught.value)


def test_nvdec_has_to_decode_a_sample_as_the_cpu_does(driver: Driver) -> None:
    # Given: nothing is ready for the stand-in, so that it gives green pictures
    assert "of a sample, 0 of 12 pictures are those that the CPU decodes" in refusal(
        DecodeProcess(kind="nvdec")
    )


def test_a_driver_without_a_device_is_no_nvdec(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAULT", "no-device")
    assert "it decodes nothing here" in refusal(DecodeProcess(kind="nvdec"))


def test_a_driver_that_crashes_is_no_nvdec(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_FAULT", "crash")
    found = refusal(DecodeProcess(kind="nvdec"))
    assert "the process that tried it ended: killed by signal 6" in found


def test_a_missing_library_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvdec, "_LIBRARIES", {"libabsent.so.9": "Install it."})
    with pytest.raises(DecoderUnavailable, match=r"libabsent\.so\.9 cannot be loaded\. Install"):
        nvdec.accelerator()


def test_a_worker_without_nvdec_leaves_the_work_to_others(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "settings", lambda: SimpleNamespace(decoder_threads=2))
    with pytest.raises(Misfit, match="decoder nvdec: of a sample, 0 of 12"), needed_here():
        extract._extractor(Store(tmp_path), CONFIG)


def test_the_cpu_needs_no_check() -> None:
    with DecodeProcess() as process:
        process.check()
        assert process.pid is None


# Planes


@pytest.mark.parametrize("color_range", [0, 1, 2], ids=["untagged", "limited", "full"])
@pytest.mark.parametrize("colorspace", [1, 2, 6, 9])
@pytest.mark.parametrize("size", [(64, 48), (67, 49), (320, 242)], ids=str)
@pytest.mark.parametrize("semiplanar", ["nv12", "p010le"])
def test_every_value_of_every_plane_is_kept(
    semiplanar: str, size: tuple[int, int], colorspace: int, color_range: int
) -> None:
    # Given: noise
    width, height = size
    dtype, shift = (np.uint8, 0) if semiplanar == "nv12" else (np.uint16, 6)
    rng = np.random.default_rng(0)
    picture = VideoFrame(width, height, semiplanar)
    picture.colorspace, picture.color_range, picture.pts = colorspace, color_range, 7
    half = ((height + 1) // 2, (width + 1) // 2)
    luma, chroma = (rng.integers(0, 256, shape) for shape in ((height, width), (*half, 2)))
    for plane, values in zip(picture.planes, (luma, chroma.reshape(half[0], -1)), strict=True):
        array_of(plane, values.shape, dtype)[:] = values << shift
    # When
    found = nvdec.planar(picture, VideoReformatter())
    # Then
    assert found.format.name in ("yuv420p", "yuv420p10le")
    for plane, values in zip(found.planes, (luma, chroma[..., 0], chroma[..., 1]), strict=True):
        np.testing.assert_array_equal(array_of(plane, values.shape, dtype), values)
    assert (found.colorspace, found.color_range, found.pts) == (colorspace, color_range, 7)


def array_of(plane: Any, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    strides = (plane.line_size, np.dtype(dtype).itemsize)
    return np.ndarray(shape, dtype, buffer=memoryview(plane), strides=strides)


@pytest.mark.parametrize("layout", SEMIPLANAR)
def test_pictures_are_scaled_alike_by_any_decoder(layout: str) -> None:
    # Left as NV12, whole pictures would differ: swscale converts it in another way.
    rows, columns = np.mgrid[:240, :320]
    image = np.stack((rows, columns // 2, (rows * columns) % 256), -1).astype(np.uint8)
    picture = VideoFrame.from_ndarray(image, format="rgb24").reformat(format=layout)
    picture.color_range = 2 if layout == "yuvj420p" else 1
    semiplanar = picture.reformat(format=SEMIPLANAR[layout])
    semiplanar.color_range = picture.color_range
    found = nvdec.planar(semiplanar, VideoReformatter())
    for one, other in zip(*map(PictureReader(SIZES), (picture, found)), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(*map(GrayConverter(), (picture, found)))


@pytest.mark.parametrize("layout", ["yuv420p", "yuv444p", "rgb24", "nv16"])
def test_a_picture_that_may_be_the_cpus_is_not_called_nvdecs(layout: str) -> None:
    with pytest.raises(nvdec.NotByNvdec, match=f"a picture in {layout}"):
        nvdec.planar(VideoFrame(64, 48, layout), VideoReformatter())


# With a GPU


@pytest.mark.needs_cuda
@pytest.mark.parametrize(("name", "options"), DECODED.values(), ids=DECODED.keys())
def test_a_gpu_decodes_what_the_cpu_decodes(
    tmp_path: Path, cpu: DecodeProcess, name: str, options: dict[str, Any]
) -> None:
    # 256 pixels: the least that NVDEC takes is 144, by codec.
    video = write(tmp_path / name, **options | {"size": (320, 256)})
    with DecodeProcess(kind="nvdec") as process:
        process.check()
        frames = decoded(process, video)
    assert {frame.decoder for frame in frames} == {"nvdec"}
    assert contents(frames) == contents(decoded(cpu, video))


@pytest.mark.needs_cuda
def test_a_gpu_leaves_what_it_does_not_decode_to_the_cpu(tmp_path: Path) -> None:
    video = write(tmp_path / "v.mp4", pixel_format="yuv444p", size=(320, 256))
    with DecodeProcess(kind="nvdec") as process:
        assert {frame.decoder for frame in decoded(process, video)} == {"cpu"}
