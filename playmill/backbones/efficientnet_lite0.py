"""EfficientNet-Lite0 for inference, in torch and for OpenVINO. Knows layers, no files, no pictures.

It computes what timm's `tf_efficientnet_lite0` computes without its classifier, from the same
tensors. It exists because importing timm costs a worker more seconds and memory than everything
else it does before its first frame, and because OpenVINO's graph of it can be drawn from the same
description at once (docs/decisions/preprocessing.md and runtimes.md have the figures).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from playmill.backbones.openvino import Stretch, load_openvino
from playmill.backbones.rounding import keeping_the_mean, mean_of_clamped

if TYPE_CHECKING:
    from openvino import Model

INPUT_SIZE = (224, 224)
"""(height, width) of the pictures; the padding rule below holds for multiples of 32."""
FEATURE_DIM = 1280
NORM_EPS = 1e-3
NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
EXACT_BLOCKS = 2
"""Blocks at the beginning that stay in fp32 where the rest is computed in bf16: rounding them costs
more than rounding all the others (docs/decisions/precision.md)."""
MEAN_INPUT = tuple((value - 0.5) / 0.5 for value in (0.485, 0.456, 0.406))
"""Average of each channel (R, G, B) of ImageNet's pictures, normalized as the network wants it."""

# Source: "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020.
# (repeats, channels, stride of the first, expansion, kernel)
STAGES = (
    (1, 16, 1, 1, 3),
    (2, 24, 2, 6, 3),
    (2, 40, 2, 6, 5),
    (3, 80, 2, 6, 3),
    (3, 112, 1, 6, 5),
    (4, 192, 2, 6, 5),
    (1, 320, 1, 6, 3),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One convolution with its batch norm, and whether ReLU6 follows."""

    conv: str
    norm: str
    shape: tuple[int, int, int, int]
    """Shape of the weight: (out, in / groups, kernel, kernel)."""
    stride: int = 1
    groups: int = 1
    relu6: bool = True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of the layer by its name in a state dict."""
        vector = {f"{self.norm}.{part}": (self.shape[0],) for part in NORM_PARTS[:-1]}
        return {f"{self.conv}.weight": self.shape, **vector, f"{self.norm}.{NORM_PARTS[-1]}": ()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Layers in a row; with `skip` the input is added to their output."""

    layers: tuple[Layer, ...]
    skip: bool = False


def blocks() -> Iterator[Block]:
    """Yield the network in the order of its computation, under timm's names."""
    yield Block(layers=(Layer(conv="conv_stem", norm="bn1", shape=(32, 3, 3, 3), stride=2),))
    channels = 32
    for stage, (repeats, out, stride, expansion, kernel) in enumerate(STAGES):
        for position in range(repeats):
            first = position == 0
            yield Block(
                layers=_mobile_layers(
                    f"blocks.{stage}.{position}",
                    channels=channels,
                    out=out,
                    expansion=expansion,
                    kernel=kernel,
                    stride=stride if first else 1,
                ),
                skip=not first,
            )
            channels = out
    shape = (FEATURE_DIM, channels, 1, 1)
    yield Block(layers=(Layer(conv="conv_head", norm="bn2", shape=shape),))


def _mobile_layers(
    prefix: str, *, channels: int, out: int, expansion: int, kernel: int, stride: int
) -> tuple[Layer, ...]:
    """Return expand (unless `expansion` is 1), depthwise and project of one block."""
    wide = channels * expansion
    expand = expansion > 1
    names = ("conv_pw", "conv_dw", "conv_pwl") if expand else ("", "conv_dw", "conv_pw")
    shapes = ((wide, channels, 1, 1), (wide, 1, kernel, kernel), (out, wide, 1, 1))
    layers = [
        Layer(
            conv=f"{prefix}.{name}",
            norm=f"{prefix}.bn{number if expand else number - 1}",
            shape=shape,
            stride=stride if name == "conv_dw" else 1,
            groups=wide if name == "conv_dw" else 1,
            relu6=number < 3,
        )
        for number, (name, shape) in enumerate(zip(names, shapes, strict=True), start=1)
        if name
    ]
    return tuple(layers)


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor the network needs, in the order of computation."""
    layers = [layer for block in blocks() for layer in block.layers]
    return {name: shape for layer in layers for name, shape in layer.shapes().items()}


def packaged_names() -> dict[str, str]:
    """Return the name of each tensor in the packaged weights -> its name here, which is timm's."""
    first, *middle, last = blocks()
    names = _renamed(first.layers[0], conv="_conv_stem", norm="_bn0")
    for number, block in enumerate(middle):
        roles = ("expand", "depthwise", "project")[-len(block.layers) :]
        for layer, role in zip(block.layers, roles, strict=True):
            norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[role]
            prefix = f"_blocks.{number}."
            names |= _renamed(layer, conv=f"{prefix}_{role}_conv", norm=prefix + norm)
    return names | _renamed(last.layers[0], conv="_conv_head", norm="_bn1")


def _renamed(layer: Layer, *, conv: str, norm: str) -> dict[str, str]:
    norms = {f"{norm}.{part}": f"{layer.norm}.{part}" for part in NORM_PARTS}
    return {f"{conv}.weight": f"{layer.conv}.weight"} | norms


class FoldedConv(nn.Module):
    """A convolution with its batch norm folded in, then ReLU6 or nothing.

    The kernel is flipped in both directions: see EfficientNetLite0.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: Layer, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        gain, shift, mean, var = (tensors[f"{layer.norm}.{part}"] for part in NORM_PARTS[:4])
        scale = gain.double() / torch.sqrt(var.double() + NORM_EPS)
        kernel = tensors[f"{layer.conv}.weight"].double() * scale[:, None, None, None]
        self.register_buffer("weight", kernel.flip(2, 3).float())
        self.register_buffer("bias", (shift.double() - mean.double() * scale).float())
        self.stride, self.groups, self.relu6 = layer.stride, layer.groups, layer.relu6
        self.padding = (layer.shape[2] - 1) // 2
        self.mean_output = shift.double()
        """(O,) float64: average of each channel, as its batch norm makes it; no buffer: it is not
        moved to devices."""
        if layer.relu6:
            deviation = gain.double().abs()
            self.mean_output = mean_of_clamped(self.mean_output, deviation, low=0.0, high=6.0)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, groups=self.groups
        )
        return y.clamp_(0.0, 6.0) if self.relu6 else y

    def draw(self, node: Any, rounded_for: Tensor | None = None) -> Any:
        """Return the layer as a node of OpenVINO's graph, fed by `node`.

        Args:
            rounded_for: (I,) float64, average of each channel of the input: kernel and bias are
                rounded to bfloat16 for it. None: they are left as they are.
        """
        opset = load_openvino().opset13
        weight, bias = self.weight, self.bias
        if rounded_for is not None:
            own = (1, -1, 1, 1) if self.groups == 1 else (-1, 1, 1, 1)
            weight, bias = keeping_the_mean(weight, bias, rounded_for.reshape(own))
        kernel = weight.flip(2, 3).numpy()
        ones, none = [1, 1], [0, 0]
        stride = [self.stride] * 2
        if self.groups == 1:
            y = opset.convolution(node, kernel, stride, none, none, ones, "same_upper")
        else:  # depthwise; OpenVINO's filters have a dimension for the groups
            kernel = kernel.reshape(self.groups, -1, *kernel.shape[1:])
            y = opset.group_convolution(node, kernel, stride, none, none, ones, "same_upper")
        y = opset.add(y, bias.numpy().reshape(1, -1, 1, 1))
        return opset.clamp(y, 0.0, 6.0) if self.relu6 else y


class FoldedBlock(nn.Module):
    """The layers of one block, with the skip connection."""

    def __init__(self, block: Block, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(FoldedConv(layer, tensors) for layer in block.layers))
        self.skip = block.skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y.add_(x) if self.skip else y

    def mean_output(self, mean: Tensor) -> Tensor:
        """Return the average of each channel of the output, (O,), for that of the input, (I,)."""
        own: Tensor = self.layers[-1].mean_output  # type: ignore[assignment]
        return own + mean if self.skip else own

    def draw(self, node: Any, rounded_for: Tensor | None = None) -> Any:
        """Return the block as a node of OpenVINO's graph, fed by `node`; see FoldedConv.draw."""
        y, mean = node, rounded_for
        for layer in self.layers:
            y = layer.draw(y, mean)  # type: ignore[operator]
            mean = None if mean is None else layer.mean_output  # type: ignore[assignment]
        return load_openvino().opset13.add(y, node) if self.skip else y


class EfficientNetLite0(nn.Module):
    """Pictures (B, 3, 224, 224) to features (B, 1280), float32 or the type it was moved to.

    These weights come from TensorFlow, whose padding for stride 2 puts the odd row and column
    below and to the right; torch's convolutions put them above and to the left. Instead of
    padding (a copy of five large tensors a pass) the network runs on pictures turned by 180
    degrees with kernels turned likewise. The mean over the picture at the end makes that exact.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(FoldedBlock(block, tensors) for block in blocks()))

    def forward(self, x: Tensor) -> Tensor:
        turned = x.flip(2, 3).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.blocks(turned).mean((2, 3))
        return features

    def openvino_stretches(self, shape: Sequence[int], precision: str) -> list[Stretch]:
        """Return the network as OpenVINO's graphs in a row, (B, 3, h, w) float32 to (B, 1280).

        Padding like TensorFlow's is something it knows, so nothing is turned.

        Args:
            precision: "fp32": one graph; "bf16": one for the blocks that stay in fp32, and one for
                the rest, its weights rounded.
        """
        if precision == "fp32":
            return [Stretch(self._drawn(shape, 0, len(self.blocks)), precision)]
        head = self._drawn(shape, 0, EXACT_BLOCKS)
        between = list(head.output(0).shape)
        tail = self._drawn(between, EXACT_BLOCKS, len(self.blocks), rounded=True)
        return [Stretch(head, "fp32"), Stretch(tail, precision)]

    def _drawn(
        self, shape: Sequence[int], first: int, stop: int, *, rounded: bool = False
    ) -> Model:
        """Draw the blocks first..stop, with the mean over the picture if the last is among them."""
        openvino = load_openvino()
        node = parameter = openvino.opset13.parameter(shape, np.float32)
        mean = torch.tensor(MEAN_INPUT, dtype=torch.float64)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, FoldedBlock)
            if first <= index < stop:
                node = block.draw(node, mean if rounded else None)
            mean = block.mean_output(mean)
        if stop == len(self.blocks):
            node = openvino.opset13.reduce_mean(node, np.array([2, 3]), keep_dims=False)
        return openvino.Model([node], [parameter], f"efficientnet_lite0, blocks {first} to {stop}")
