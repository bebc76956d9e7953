"""FrameProcessor: pictures to features, in batches of a fixed shape. Knows no video, no files."""

from __future__ import annotations

import ctypes
import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from playmill.backbones import IMAGENET_MEAN, IMAGENET_STD
from playmill.backbones.openvino import MIN_COSINE, OpenVinoBackbone
from playmill.config import PRECISIONS, PipelineConfig
from playmill.encoders import Encoder, EncoderSpec, choose_device, features_of
from playmill.errors import EncoderError, UsageError
from playmill.passes import FullBatch, Pass

log = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class ProcessedFrame:
    """One frame, preprocessed, with its features."""

    frame_id: str
    timestamp: int
    """As given to `process_frame`; microseconds by convention."""
    raw_tensor: Tensor
    """(3, h, w) float32: resized and normalized, on the CPU."""
    processed_tensor: Tensor
    """A copy of `raw_tensor`, for further processing in place."""
    features: Tensor | None
    """(1, D), as the feature extractor returned it; None if none were extracted."""
    metadata: dict[str, Any]
    """original_size and processed_size, (height, width) each."""


_COMPARED = 2
"""Pictures that a compiled backbone is held to its module on; torch takes memory for each."""


class FrameProcessor:
    """Resizes pictures to a model's input, normalizes them, and extracts features.

    Batches always have `batch_size` pictures: a short one is padded with black, so that the
    arithmetic, and with it the last bits of a feature, does not depend on how many there are.

    Args:
        model_input_size: (height, width) that pictures are resized to; nothing is cropped.
        feature_extractor: (B, 3, h, w) to (B, D); it is moved to the device and set to eval mode.
        device: "auto" (CUDA if there is any), "cpu" or "cuda".
        mean: subtracted from each channel (R, G, B) of pictures scaled to 0..1.
        std: each channel is divided by it after that.
        precision: arithmetic of the extractor: "fp32", "bf16" or "fp16".
        batch_size: pictures in one pass.
        num_threads: threads of the arithmetic on a CPU. torch keeps one number a thread of the
            process, whatever runs in it; it is set before each pass. None: as it is.
    Raises:
        UsageError: the device is not there, or an argument is impossible.
    """

    def __init__(
        self,
        model_input_size: tuple[int, int] = (224, 224),
        feature_extractor: nn.Module | None = None,
        device: str = "auto",
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        precision: str = "fp32",
        batch_size: int = 16,
        num_threads: int | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r}; choose of {', '.join(PRECISIONS)}")
        if batch_size < 1 or (num_threads is not None and num_threads < 1):
            raise UsageError(f"{batch_size=}, {num_threads=}; both must be at least 1")
        if len(mean) != 3 or len(std) != 3 or 0 in std:
            raise UsageError(f"{mean=}, {std=}; both have three values, and no std is 0")
        height, width = model_input_size
        if min(height, width) < 1:
            raise UsageError(f"{model_input_size=}; both sides must be at least 1")
        self.model_input_size = (height, width)
        self.device = choose_device(device)
        self.precision = precision
        self.batch_size = batch_size
        self.batch_used = batch_size
        """Pictures in one pass since the device last ran out of memory."""
        self.num_threads = num_threads
        self.reentrant = False
        """Whether `extract` may run in several threads at once."""
        self.spec: EncoderSpec | None = None
        """What the features come from; None for an extractor that has no name."""
        self.feature_extractor = feature_extractor
        self._dtype = _DTYPES[precision]
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self.device)[:, None, None]
        self._std = torch.tensor(std, dtype=torch.float32, device=self.device)[:, None, None]
        self._feature_dim: int | None = None
        self._compiled: OpenVinoBackbone | None = None
        if feature_extractor is not None:
            feature_extractor.to(self.device, self._dtype).to(memory_format=torch.channels_last)
            feature_extractor.eval()
        if self.device.type == "cuda":
            _compute_deterministically()
        elif precision == "fp16":
            log.warning("fp16 is emulated by most CPUs, a hundred times slower than fp32")

    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        *,
        precision: str = "fp32",
        batch_size: int = 16,
        num_threads: int | None = None,
    ) -> FrameProcessor:
        """Return a processor that feeds `encoder` what it expects, on the encoder's device."""
        processor = cls(
            encoder.spec.input_size,
            encoder.module,
            str(encoder.device),
            mean=encoder.spec.mean,
            std=encoder.spec.std,
            precision=precision,
            batch_size=batch_size,
            num_threads=num_threads,
        )
        processor.spec, processor.reentrant = encoder.spec, encoder.reentrant
        processor._feature_dim = encoder.spec.feature_dim
        return processor

    @classmethod
    def of_run(cls, encoder: Encoder, config: PipelineConfig) -> FrameProcessor:
        """Return the processor of a run: one thread each for `config.num_passes` side by side.

        Raises:
            EncoderError: the run's runtime cannot compute this backbone, or computes another.
        """
        if config.chosen_runtime == "torch":
            return cls.from_encoder(
                encoder, precision=config.precision, batch_size=config.batch_size, num_threads=1
            )
        processor = cls.from_encoder(encoder, batch_size=config.batch_size, num_threads=1)
        processor._compiled = OpenVinoBackbone(
            encoder,
            batch_size=config.batch_size,
            precision=config.precision,
            num_passes=config.num_passes,
        )
        processor.precision, processor.reentrant = config.precision, True
        processor._check_compiled()
        _trim_memory()
        return processor

    def _check_compiled(self) -> None:
        """Raise EncoderError unless the compiled backbone and its module agree on noise."""
        assert self._compiled is not None  # only called where there is one
        shape = (self.batch_size, *self.model_input_size, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        self._set_threads()
        found = self._compiled(noise)[:_COMPARED]
        expected = self._forward(torch.from_numpy(noise[:_COMPARED])).numpy()
        if found.shape != expected.shape:
            cosine = float("nan")
        else:
            lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
            cosine = float(((found * expected).sum(1) / np.maximum(lengths, 1e-30)).min())
        if not cosine >= MIN_COSINE[self.precision]:
            raise EncoderError(
                self._name,
                f"compiled by OpenVINO it gives {found.shape} features whose cosine to those of the"
                f" module, {expected.shape}, is {cosine:.4f};"
                f" expected {MIN_COSINE[self.precision]} or more",
                "Give --runtime torch.",
            )

    @property
    def feature_dim(self) -> int:
        """D of the features; an extractor without a name is asked with one black picture.

        Raises:
            ValueError: there is no feature extractor.
        """
        if self._feature_dim is None:
            black = torch.zeros(1, *self.model_input_size, 3, dtype=torch.uint8)
            self._feature_dim = self._forward(black).shape[1]
        return self._feature_dim

    def process_frame(
        self,
        frame_data: NDArray[np.uint8],
        frame_id: str,
        timestamp: int,
        extract_features: bool = True,
    ) -> ProcessedFrame:
        """Process a single frame and extract its features.

        Args:
            frame_data: (H, W, 3) RGB or (H, W, 4) RGBA, uint8; alpha is dropped.
            frame_id: identifies the frame; kept.
            timestamp: when it was shown; kept.
            extract_features: False: preprocess only.
        Raises:
            ValueError: `frame_data` has another shape or dtype.
        """
        picture = self.resize([frame_data])
        normalized = self._normalize(torch.from_numpy(picture).to(self.device))
        features = None
        if extract_features and self.feature_extractor is not None:
            features = self._features_of(normalized)
        raw_tensor = normalized[0].cpu().contiguous()
        return ProcessedFrame(
            frame_id=frame_id,
            timestamp=timestamp,
            raw_tensor=raw_tensor,
            processed_tensor=raw_tensor.clone(),
            features=features,
            metadata={
                "original_size": frame_data.shape[:2],
                "processed_size": self.model_input_size,
            },
        )

    def resize(
        self, images: Sequence[NDArray[np.uint8]], *, size: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """Resize whole pictures to (B, h, w, 3); see `resize` of this module.

        Args:
            images: (H, W, 3 or 4) uint8 each; sizes may differ.
            size: (height, width); None: the model's input.
        """
        self._set_threads()
        return resize(images, size=size or self.model_input_size)

    def extract(self, batch: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return the features of resized pictures: `begin`, and wait.

        Args:
            batch: (b, h, w, 3) uint8 RGB of the model's input size, 1 <= b <= batch_size.
        Returns:
            (b, D) float16.
        Raises:
            ValueError: the batch has another shape or dtype, or there is no feature extractor.
            EncoderError: a feature is not finite, or too large for float16.
        """
        return self.begin(batch).features()

    def begin(self, batch: NDArray[np.uint8]) -> Pass:
        """Send resized pictures through the backbone; `Pass.features` waits for the end.

        A GPU is only told what to do, and is at it when this returns: the next pass can be begun
        before the features of this one are taken back, so that it never waits for the host. A CPU
        has done the work when this returns.

        If the GPU's memory does not suffice, the pass is repeated with half as many pictures,
        and so are all later ones; `batch_used` says so.

        Args:
            batch: as `extract`; the caller may change it afterwards.
        Raises:
            ValueError, EncoderError: as `extract`.
        """
        self._check_batch(batch)
        self._set_threads()
        while True:
            try:
                full = [
                    self._begin_padded(batch[start : start + self.batch_used])
                    for start in range(0, len(batch), self.batch_used)
                ]
                return Pass(full, self.batch_used, encoder=self._name, precision=self.precision)
            except torch.OutOfMemoryError:
                if self.batch_used == 1:
                    raise
                self.batch_used //= 2
            # Outside of the handler: its traceback would keep the failed pass's tensors alive.
            torch.cuda.empty_cache()

    def _check_batch(self, batch: NDArray[np.uint8]) -> None:
        expected = (*self.model_input_size, 3)
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != expected:
            raise ValueError(
                f"batch is {batch.shape} {batch.dtype}, expected (b, {expected[0]}, {expected[1]},"
                " 3) uint8; resize() makes such"
            )
        if not 1 <= len(batch) <= self.batch_size:
            raise ValueError(f"batch has {len(batch)} pictures, expected 1 to {self.batch_size}")

    def _set_threads(self) -> None:
        """Set the calling thread's number of threads: OpenMP keeps one for each."""
        if self.num_threads is not None and torch.get_num_threads() != self.num_threads:
            torch.set_num_threads(self.num_threads)

    def _begin_padded(self, pictures: NDArray[np.uint8]) -> FullBatch:
        """Send up to `batch_used` pictures through the backbone as a full batch."""
        on_gpu = self.device.type == "cuda"
        shape = (self.batch_used, *self.model_input_size, 3)
        # torch keeps pinned memory for the next batch, and knows when a GPU has done with it.
        full = torch.zeros(shape, dtype=torch.uint8, pin_memory=on_gpu)
        full.numpy()[: len(pictures)] = pictures
        if self._compiled is not None:
            features = torch.from_numpy(self._compiled(full.numpy()))
        else:
            features = self._forward(full).float()
        return FullBatch(full, features, num_pictures=len(pictures))

    def _forward(self, pictures: Tensor) -> Tensor:
        """Normalize (B, h, w, 3) uint8 on the device and return the features (B, D)."""
        on_device = pictures.to(self.device, non_blocking=True)
        return self._features_of(self._normalize(on_device))

    def _normalize(self, pictures: Tensor) -> Tensor:
        """Return (B, h, w, 3) uint8 as (B, 3, h, w) float32, channels last, normalized."""
        values = pictures.permute(0, 3, 1, 2).float()
        return values.div_(255).sub_(self._mean).div_(self._std)

    def _features_of(self, normalized: Tensor) -> Tensor:
        if self.feature_extractor is None:
            raise ValueError("there is no feature extractor; give the FrameProcessor one")
        with torch.no_grad():
            output = self.feature_extractor(normalized.to(self._dtype))
            return features_of(output, num_pictures=len(normalized), encoder=self._name)

    @property
    def _name(self) -> str:
        return self.spec.name if self.spec else type(self.feature_extractor).__name__


def resize(images: Sequence[NDArray[np.uint8]], *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize whole pictures: bilinear, antialiased, aspect ratio not kept, alpha dropped.

    Within one level of torchvision's Resize of the same picture, be it a PIL image or a tensor.

    Args:
        images: (H, W, 3) RGB or (H, W, 4) RGBA, uint8 each; sizes may differ.
        size: (height, width).
    Returns:
        (B, height, width, 3) uint8.
    Raises:
        ValueError: a picture has another shape or dtype, or there is none.
    """
    if not images:
        raise ValueError("there is no picture to resize")
    resized = np.empty((len(images), *size, 3), dtype=np.uint8)
    for row, image in zip(resized, images, strict=True):
        _check_picture(image)
        row[:] = image[:, :, :3] if image.shape[:2] == size else _resize_one(image, size)
    return resized


def _resize_one(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return one picture as (height, width, 3). Alpha is resized, too: dropping it costs more."""
    # A view of a batch of one with its channels last in memory is what torch resizes fastest.
    one = torch.from_numpy(_writable(image))[None].permute(0, 3, 1, 2)
    small = functional.interpolate(one, size, mode="bilinear", align_corners=False, antialias=True)
    return small[0].permute(1, 2, 0).numpy()[:, :, :3]


def _check_picture(image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(
            f"picture is {image.shape} {image.dtype}, expected (height, width, 3 or 4) uint8"
        )
    if 0 in image.shape:
        raise ValueError(f"picture is {image.shape}: it has no pixels")


def _writable(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a contiguous array that torch may share, which it does with writable ones alone."""
    packed = np.ascontiguousarray(image)
    return packed if packed.flags.writeable else packed.copy()


def _compute_deterministically() -> None:
    """Let CUDA give equal bits for equal batches, in full float32; holds for the process."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _trim_memory() -> None:
    """Give back what compiling and comparing needed, some 40 MB that glibc keeps otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)


def free_device_memory(device: str) -> None:
    """Give back what a processor that has gone held on a device: "cpu" or "cuda"."""
    gc.collect()
    if device == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()
