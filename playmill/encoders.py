"""Vision backbones by name. Knows names, weights and what a backbone expects of its input.

Importing this module, and describing the built-in encoders, imports no torch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from playmill.backbones import (
    Backbone,
    EfficientNetLite0,
    Factory,
    MeanPixel,
    Preprocessing,
    Timm,
    Torchvision,
)
from playmill.config import COMPILED_KINDS
from playmill.errors import EncoderError, UsageError
from playmill.phrases import suggestion

if TYPE_CHECKING:
    import torch
    from torch import nn

NO_WEIGHTS_DIGEST = hashlib.sha256().hexdigest()
"""Digest of a backbone without weights: sha256 of nothing."""

_BUILT_IN: dict[str, type[EfficientNetLite0 | MeanPixel]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "mean_pixel": MeanPixel,
}
_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

_OWN_KINDS = (*COMPILED_KINDS, "mean_pixel")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSpec:
    """What decides an encoder's features, apart from precision and batch."""

    name: str
    """As the user gave it."""
    weights_digest: str
    """sha256, hex: of the weights file, or of the state dict where there is no file."""
    input: Preprocessing
    """What pictures go through before the backbone sees them."""
    feature_dim: int
    """D."""

    @property
    def preprocessing(self) -> str:
        """The complete description of the preprocessing, for keys and attributes."""
        return self.input.describe()

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return self.input.size

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel (R, G, B), of values 0..1."""
        return self.input.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel (R, G, B), of values 0..1."""
        return self.input.std


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """A loaded backbone: its head is gone, it is in eval mode, on its device, in float32."""

    spec: EncoderSpec
    """Its digest is that of the bytes that were loaded."""
    module: nn.Module
    """(B, 3, H, W) normalized to (B, D), or to what flattens to that."""
    device: torch.device

    @property
    def reentrant(self) -> bool:
        """Whether several passes may run at once: Playmill's own keep nothing between the layers.

        A factory's module may, and would mix up batches without a word.
        """
        return self.spec.name.partition(":")[0] in _OWN_KINDS


def list_encoders() -> dict[str, str]:
    """Return every form of an encoder's name with a sentence on it, for help texts."""
    return {
        "efficientnet_lite0": "ImageNet weights out of an installed package, 1280 features",
        "mean_pixel": "no weights: mean colours of 4 x 4 fields, 48 features",
        "torchvision:<model>": "a classifier of torchvision without its head",
        "timm:<model>": "a model of timm without its head",
        "package.module:factory": "your own: factory() returns a torch.nn.Module",
    }


def check_name(name: str) -> None:
    """Find out whether there is such an encoder, without loading weights.

    Raises:
        UsageError: the name has none of the forms, or names nothing that exists.
    """
    _backbone(name).check()


def _backbone(name: str) -> Backbone:
    """Return the backbone that `name` names; UsageError if it has none of the forms."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    library, colon, model = name.partition(":")
    if colon and model:
        if library == "torchvision":
            return Torchvision(name)
        if library == "timm":
            return Timm(name)
        if _FACTORY.fullmatch(name):
            return Factory(name)
    forms = list_encoders()
    raise UsageError(
        f"unknown encoder {name!r}{suggestion(name, forms)}; the forms are {', '.join(forms)}"
    )


def describe(name: str, weights: Path | None = None) -> EncoderSpec:
    """Return what decides the features of an encoder; remembered for the life of the process.

    The built-in encoders are described without torch; the others are loaded once.

    Raises:
        UsageError: there is no such encoder.
        EncoderError: its weights cannot be had, or do not fit.
    """
    stat = None if weights is None else _stat(name, weights)
    return _describe(name, weights, stat)


@lru_cache
def _describe(name: str, weights: Path | None, stat: tuple[int, int, int] | None) -> EncoderSpec:
    """Describe; `stat` makes a file that was replaced another entry of the cache."""
    backbone = _backbone(name)
    known = backbone.known()
    if known is None or (weights is not None and known.file is None):
        return load(name, weights, device="cpu").spec
    file = weights or known.file
    return EncoderSpec(
        name=name,
        weights_digest=NO_WEIGHTS_DIGEST if file is None else _file_digest(name, file),
        input=known.preprocessing,
        feature_dim=known.feature_dim,
    )


def load(
    encoder: str | EncoderSpec, weights: Path | None = None, *, device: str = "auto"
) -> Encoder:
    """Load a backbone, remove its head, and put it on a device.

    Args:
        encoder: its name; or a spec, which what is loaded must then equal.
        weights: a .safetensors or .pth file that replaces its own weights.
        device: "auto", "cpu" or "cuda".
    Raises:
        UsageError: there is no such encoder, or no such device.
        EncoderError: its weights cannot be had, do not fit, or are not those of the spec.
    """
    from playmill.backbones.weights import read_weights, state_digest

    place = choose_device(device)
    name = encoder if isinstance(encoder, str) else encoder.name
    backbone = _backbone(name)
    known = backbone.known()
    file = weights or (known.file if known else None)
    if file is None:
        module, preprocessing = backbone.build(None)
        digest = state_digest(module.state_dict())
    else:
        content = read_weights(file, encoder=name)
        module, preprocessing = backbone.build(content.tensors)
        digest = content.digest
    module = module.eval().requires_grad_(False)
    spec = EncoderSpec(
        name=name,
        weights_digest=digest,
        input=preprocessing,
        feature_dim=known.feature_dim if known else _measure_dim(name, module, preprocessing),
    )
    if isinstance(encoder, EncoderSpec) and spec != encoder:
        raise EncoderError(
            name,
            f"what was loaded ({spec.weights_digest[:12]}; {spec.preprocessing}) is not what was"
            f" planned with ({encoder.weights_digest[:12]}; {encoder.preprocessing})",
            "Give all hosts the same weights and versions, and submit again.",
        )
    return Encoder(spec=spec, module=module.to(place), device=place)


def choose_device(device: str) -> torch.device:
    """Return the device that "auto" (CUDA if there is any), "cpu" or "cuda" means.

    Raises:
        UsageError: it is none of these, or is not there.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"unknown device {device!r}; choose one of auto, cpu, cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            f"device {device!r} was asked for, but torch {torch.__version__} finds no CUDA device;"
            " check the driver and that torch was built with CUDA, or use the device cpu"
        )
    return torch.device(device)


def feature_key(name: str, weights_digest: str | None) -> str:
    """Return the name of an encoder's features in a dataset: [A-Za-z0-9._-]+.

    Args:
        name: the encoder's name.
        weights_digest: sha256 of the file that replaced its own weights; None: its own.
    """
    plain = name.replace(":", ".")
    slug = re.sub(r"[^A-Za-z0-9._-]", "_", plain)
    if slug != plain:
        slug += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return slug if weights_digest is None else f"{slug}-{weights_digest[:8]}"


def _measure_dim(name: str, module: nn.Module, preprocessing: Preprocessing) -> int:
    """Return D of the features of one black picture."""
    import torch

    try:
        with torch.inference_mode():
            found = module(torch.zeros(1, 3, *preprocessing.size))
            return features_of(found, num_pictures=1, encoder=name).shape[1]
    except EncoderError:
        raise
    except Exception as error:  # it may be a team's own code: anything may happen
        raise EncoderError(
            name,
            f"it fails on a picture of {preprocessing.size[0]}x{preprocessing.size[1]}"
            f" ({type(error).__name__}: {error})",
            "Its input_size must be the (height, width) that it takes.",
        ) from error


def features_of(output: object, *, num_pictures: int, encoder: str) -> torch.Tensor:
    """Return a backbone's output as (num_pictures, D); EncoderError if it is not features."""
    import torch

    if isinstance(output, torch.Tensor) and output.ndim >= 2 and len(output) == num_pictures:
        return output.flatten(1)
    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    raise EncoderError(
        encoder,
        f"it returned {found} for {num_pictures} pictures, expected a tensor (B, D)",
        "Let it return one row of features a picture.",
    )


def _stat(name: str, weights: Path) -> tuple[int, int, int]:
    try:
        found = weights.stat()
    except OSError as error:
        raise EncoderError(
            name, f"the weights file {weights} cannot be read ({error})", "Check --weights."
        ) from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def _file_digest(name: str, file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EncoderError(
            name, f"the weights file {file} cannot be read ({error})", "Check --weights."
        ) from error
