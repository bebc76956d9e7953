"""FrameProcessor: the resize, the batches, the one-item form, and what it refuses."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from playmill import encoders
from playmill.encoders import Encoder
from playmill.errors import EncoderError, UsageError
from playmill.frame_processor import FrameProcessor, ProcessedFrame, resize

pytestmark = pytest.mark.usefixtures("one_thread")


def picture(height: int, width: int, *, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture with smooth and sharp places, like a game's."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = 127 + 100 * np.sin(rows / 17 + columns[:] / 23)
    image = np.repeat(waves[..., None], channels, axis=2)
    image[height // 3 : height // 2] = rng.integers(0, 256, (channels,))
    image[:, width // 2 :] += rng.integers(-60, 60, (height, width - width // 2, channels))
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def lite0() -> Encoder:
    return encoders.load("efficientnet_lite0", device="cpu")


@pytest.fixture(scope="module")
def means() -> FrameProcessor:
    """A processor that takes no time."""
    return FrameProcessor.from_encoder(encoders.load("mean_pixel", device="cpu"), batch_size=4)


class Constant(nn.Module):
    """Gives one number as the only feature of every picture."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 1), self.value)


class SmallMemory(nn.Module):
    """Has room for `limit` pictures, as a GPU may; records the batches it was given."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x.mean((2, 3))


# Resizing

SIZES = [(480, 640), (720, 1280), (201, 333), (100, 90), (224, 224), (1, 1), (3, 500)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resizing_equals_torchvision_within_a_level(size: tuple[int, int]) -> None:
    from PIL import Image
    from torchvision.transforms import Resize

    image = picture(*size)
    found = resize([image], size=(224, 224))[0].astype(int)
    as_picture = np.asarray(Resize((224, 224))(Image.fromarray(image)), dtype=int)
    planes = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    as_tensor = Resize((224, 224))(planes).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - as_picture).max() <= 1
    assert np.abs(found - as_tensor).max() <= 1
    assert (found != as_picture).mean() < 0.02


def test_alpha_is_dropped_not_composited() -> None:
    image = picture(120, 160, channels=4)
    image[..., 3] = 0
    sizes = ((64, 64), (120, 160))
    for size in sizes:
        np.testing.assert_array_equal(
            resize([image], size=size),
            resize([np.ascontiguousarray(image[..., :3])], size=size),
        )


def test_pictures_of_one_batch_may_differ_in_size_and_memory_layout() -> None:
    image = picture(90, 160)
    read_only = image.copy()
    read_only.flags.writeable = False
    turned = image[::-1, ::-1]
    found = resize([image, read_only, turned, picture(50, 40)], size=(64, 64))
    assert found.shape == (4, 64, 64, 3)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(
        found[2], resize([np.ascontiguousarray(turned)], size=(64, 64))[0]
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"picture is \(4, 4, 3\) float32, expected"),
        (np.zeros((4, 4), np.uint8), r"picture is \(4, 4\) uint8, expected"),
        (np.zeros((4, 4, 1), np.uint8), r"picture is \(4, 4, 1\) uint8, expected"),
        (np.zeros((3, 4, 5), np.uint8), r"picture is \(3, 4, 5\) uint8, expected"),
        (np.zeros((0, 4, 3), np.uint8), r"picture is \(0, 4, 3\): it has no pixels"),
    ],
    ids=["float", "gray", "one channel", "planes", "empty"],
)
def test_what_is_no_picture_is_refused(
    image: NDArray[np.uint8], message: str, means: FrameProcessor
) -> None:
    with pytest.raises(ValueError, match=message):
        means.resize([image])
    with pytest.raises(ValueError, match=message):
        means.process_frame(image, "f", 0)


def test_no_pictures_are_refused(means: FrameProcessor) -> None:
    with pytest.raises(ValueError, match="no picture to resize"):
        means.resize([])


def test_resizing_to_another_size_than_the_models() -> None:
    processor = FrameProcessor((32, 48))
    assert processor.resize([picture(60, 80)]).shape == (1, 32, 48, 3)
    assert processor.resize([picture(60, 80)], size=(10, 20)).shape == (1, 10, 20, 3)


# Extracting


def test_features_are_those_of_the_encoder(lite0: Encoder) -> None:
    processor = FrameProcessor.from_encoder(lite0, batch_size=2)
    batch = processor.resize([picture(180, 320, seed=1), picture(180, 320, seed=2)])
    found = processor.extract(batch)
    normalized = (torch.from_numpy(batch).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    expected = lite0.module(normalized).numpy()
    assert found.shape == (2, processor.feature_dim) == (2, 1280)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_padding_never_changes_the_features_of_real_frames(lite0: Encoder) -> None:
    processor = FrameProcessor.from_encoder(lite0, batch_size=4)
    batch = processor.resize([picture(180, 320, seed=seed) for seed in range(4)])
    whole = processor.extract(batch)
    for count in (1, 2, 3):
        np.testing.assert_array_equal(processor.extract(batch[:count]), whole[:count])


def test_equal_batches_give_equal_bits_in_every_thread(lite0: Encoder) -> None:
    processor = FrameProcessor.from_encoder(lite0, batch_size=2, num_threads=1)
    batch = processor.resize([picture(180, 320)])
    found: list[NDArray[np.float16]] = []
    threads: list[int] = []

    def work() -> None:
        found.append(processor.extract(batch))
        threads.append(torch.get_num_threads())

    other = threading.Thread(target=work)
    other.start()
    other.join()
    work()
    np.testing.assert_array_equal(found[0], found[1])
    assert threads == [1, 1]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_lower_precision_gives_nearly_the_same_features(precision: str) -> None:
    batch = resize([picture(180, 320, seed=seed) for seed in range(2)], size=(64, 64))
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    rows = [
        FrameProcessor((64, 64), model, "cpu", precision=p, batch_size=2).extract(batch)
        for p in ("fp32", precision)
    ]
    full, half = (torch.from_numpy(row).float() for row in rows)
    assert nn.functional.cosine_similarity(full, half).min() > 0.995
    assert not torch.equal(full, half)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((1, 64, 64, 3), np.float32), r"\(1, 64, 64, 3\) float32, expected \(b, 64, 64"),
        (np.zeros((64, 64, 3), np.uint8), r"batch is \(64, 64, 3\) uint8"),
        (np.zeros((1, 64, 32, 3), np.uint8), r"batch is \(1, 64, 32, 3\)"),
        (np.zeros((1, 64, 64, 4), np.uint8), r"batch is \(1, 64, 64, 4\)"),
        (np.zeros((0, 64, 64, 3), np.uint8), "batch has 0 pictures, expected 1 to 4"),
        (np.zeros((5, 64, 64, 3), np.uint8), "batch has 5 pictures, expected 1 to 4"),
    ],
    ids=["float", "one picture", "size", "alpha", "none", "too many"],
)
def test_what_is_no_batch_is_refused(
    batch: NDArray[np.uint8], message: str, means: FrameProcessor
) -> None:
    with pytest.raises(ValueError, match=message):
        means.extract(batch)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 65520.0, -7e4])
def test_features_that_float16_cannot_hold_are_an_error(value: float) -> None:
    processor = FrameProcessor((8, 8), Constant(value), "cpu", batch_size=2)
    with pytest.raises(EncoderError, match=r"Constant: at precision fp32 it gave a feature of"):
        processor.extract(np.zeros((1, 8, 8, 3), np.uint8))


def test_features_that_float16_can_just_hold_are_kept() -> None:
    processor = FrameProcessor((8, 8), Constant(-65519.0), "cpu", batch_size=2)
    assert processor.extract(np.zeros((1, 8, 8, 3), np.uint8))[0, 0] == -65504


def test_out_of_memory_is_met_with_half_the_batch() -> None:
    model = SmallMemory(2)
    processor = FrameProcessor((8, 8), model, "cpu", batch_size=8)
    batch = np.stack([np.full((8, 8, 3), 10 * level, np.uint8) for level in range(7)])
    found = processor.extract(batch)
    plain = FrameProcessor((8, 8), SmallMemory(8), "cpu", batch_size=8)
    np.testing.assert_array_equal(found, plain.extract(batch))
    assert (processor.batch_size, processor.batch_used, plain.batch_used) == (8, 2, 8)
    assert model.seen == [8, 4, 2, 2, 2, 2]


def test_out_of_memory_with_a_single_picture_is_raised() -> None:
    processor = FrameProcessor((8, 8), SmallMemory(0), "cpu", batch_size=2)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        processor.extract(np.zeros((1, 8, 8, 3), np.uint8))


def test_a_model_that_returns_no_rows_is_refused() -> None:
    processor = FrameProcessor((8, 8), nn.Flatten(0), "cpu")
    with pytest.raises(EncoderError, match=r"Flatten: it returned \(3072,\) for 16 pictures"):
        processor.extract(np.zeros((1, 8, 8, 3), np.uint8))


def test_a_processor_without_a_model_extracts_nothing() -> None:
    processor = FrameProcessor((8, 8), device="cpu")
    assert processor.process_frame(picture(20, 30), "f", 1).features is None
    with pytest.raises(ValueError, match="no feature extractor"):
        processor.extract(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="no feature extractor"):
        _ = processor.feature_dim


def test_the_feature_dim_of_any_model_is_known() -> None:
    assert FrameProcessor((8, 8), nn.Flatten(), "cpu").feature_dim == 192


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp64"}, "unknown precision 'fp64'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_threads": 0}, "num_threads=0"),
        ({"model_input_size": (0, 9)}, "both sides must be at least 1"),
        ({"std": (1.0, 0.0, 1.0)}, "no std is 0"),
        ({"mean": (0.5,)}, "both have three values"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(value),
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FrameProcessor(**arguments)  # type: ignore[arg-type]


# The one-item form


def sketch(frame: NDArray[np.uint8], model: nn.Module) -> tuple[Tensor, Tensor]:
    """Process a frame as the project's first sketch did, word for word."""
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    if frame.shape[-1] == 4:
        frame = frame[:, :, :3]
    raw_tensor = transform(frame)
    with torch.no_grad():
        return raw_tensor, model(raw_tensor.unsqueeze(0))


@pytest.mark.parametrize("channels", [3, 4], ids=["RGB", "RGBA"])
def test_process_frame_gives_what_the_first_sketch_gave(channels: int) -> None:
    frame = picture(240, 320, channels=channels)
    model = nn.Sequential(nn.AvgPool2d(32), nn.Flatten())
    processor = FrameProcessor((224, 224), feature_extractor=model, device="cpu")
    found = processor.process_frame(frame, "frame_7", 123_456)
    raw_tensor, features = sketch(frame, model)
    assert isinstance(found, ProcessedFrame)
    assert (found.frame_id, found.timestamp) == ("frame_7", 123_456)
    assert found.metadata == {"original_size": (240, 320), "processed_size": (224, 224)}
    assert found.raw_tensor.shape == (3, 224, 224)
    assert found.raw_tensor.dtype == torch.float32
    level = 1 / 255 / 0.224
    assert (found.raw_tensor - raw_tensor).abs().max() <= level * 1.001
    assert torch.equal(found.raw_tensor, found.processed_tensor)
    assert found.raw_tensor.data_ptr() != found.processed_tensor.data_ptr()
    assert found.features is not None
    torch.testing.assert_close(found.features, features, rtol=0, atol=1e-3)


def test_process_frame_normalizes_exactly_as_the_sketch_where_nothing_is_resized() -> None:
    frame = picture(224, 224)
    raw_tensor, _ = sketch(frame, nn.Flatten())
    assert torch.equal(
        FrameProcessor(device="cpu").process_frame(frame, "f", 0).raw_tensor, raw_tensor
    )


def test_process_frame_can_leave_the_features_out(means: FrameProcessor) -> None:
    found = means.process_frame(picture(20, 30), "f", 0, extract_features=False)
    assert found.features is None


def test_process_frame_and_extract_agree(means: FrameProcessor) -> None:
    frame = picture(100, 200)
    one = means.process_frame(frame, "f", 0).features
    assert one is not None
    np.testing.assert_array_equal(
        means.extract(means.resize([frame])), one.numpy().astype(np.float16)
    )


def test_features_may_be_trained_on(means: FrameProcessor) -> None:
    features = means.process_frame(picture(20, 30), "f", 0).features
    assert features is not None
    head = nn.Linear(48, 1)
    head(features).sum().backward()
    assert head.weight.grad is not None


@pytest.mark.needs_cuda
@pytest.mark.parametrize("name", ["efficientnet_lite0", "mean_pixel"])
def test_cpu_and_gpu_agree(name: str) -> None:
    frames = [picture(180, 320, seed=seed) for seed in range(5)]
    rows = []
    for device in ("cpu", "cuda"):
        encoder = encoders.load(name, device=device)
        processor = FrameProcessor.from_encoder(encoder, batch_size=8)
        batch = processor.resize(frames)
        rows.append(torch.from_numpy(processor.extract(batch)).float())
        assert torch.equal(rows[-1], torch.from_numpy(processor.extract(batch)).float())
    assert nn.functional.cosine_similarity(*rows).min() >= 0.9999


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
def test_passes_that_wait_for_one_another_are_those_that_came_alone(device: str) -> None:
    encoder = encoders.load("efficientnet_lite0", device=device)
    processor = FrameProcessor.from_encoder(encoder, batch_size=2)
    batches = [processor.resize([picture(90, 160, seed=seed)]) for seed in range(4)]
    alone = [processor.extract(batch) for batch in batches]
    begun = []
    for batch in batches:
        begun.append(processor.begin(batch))
        batch[:] = 0  # the caller may use its memory again
    for one, expected in zip(reversed(begun), reversed(alone), strict=True):
        np.testing.assert_array_equal(one.features(), expected)
