"""A backbone compiled by OpenVINO for the CPU. Knows arrays and modules, no video and no files.

OpenVINO lays tensors out as the processor's vector units want them and fuses what torch computes
one after the other: the same features in less time (docs/decisions/runtimes.md has the figures).
"""

from __future__ import annotations

import queue
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from playmill.errors import EncoderError, EncoderUnavailable
from playmill.processor import has_bf16

if TYPE_CHECKING:
    from openvino import CompiledModel, InferRequest, Model, Tensor
    from torch import nn

    from playmill.encoders import Encoder

MIN_COSINE = {"fp32": 0.9999, "bf16": 0.98}
"""How near the compiled backbone must come to the module, by its precision."""
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def load_openvino() -> Any:
    """Import OpenVINO without what tells its makers, over the network, that it was imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a backbone, from one point of it to another, and the arithmetic it needs."""

    model: Model
    """One input, one output, both float32; pictures and what becomes of them are (B, C, h, w)."""
    precision: str
    """"fp32" or "bf16"."""


class OpenVinoBackbone:
    """Pictures to features; several passes may run at once, one thread each.

    Args:
        encoder: the backbone; its module stays as it is.
        batch_size: pictures in every pass.
        precision: "fp32" or "bf16".
        num_passes: passes that may run at once.
    Raises:
        EncoderError: OpenVINO cannot take the module over, or computes something else.
        EncoderUnavailable: this processor has no bf16; OpenVINO would compute fp32 in its place.
    """

    def __init__(
        self, encoder: Encoder, *, batch_size: int, precision: str, num_passes: int
    ) -> None:
        if precision == "bf16" and not has_bf16():
            raise EncoderUnavailable(
                encoder.spec.name,
                "this processor does not compute in bf16",
                "Give --precision fp32, or leave it to machines whose processors do.",
            )
        shape = (batch_size, 3, *encoder.spec.input_size)
        stretches = _converted(encoder.module, shape, precision, name=encoder.spec.name)
        compiled = [
            _compiled(
                _joinable(
                    stretch.model,
                    normalization=None if number else (encoder.spec.mean, encoder.spec.std),
                    is_last=number == len(stretches) - 1,
                ),
                precision=stretch.precision,
                num_passes=num_passes,
            )
            for number, stretch in enumerate(stretches)
        ]
        self._chains: queue.SimpleQueue[list[InferRequest]] = queue.SimpleQueue()
        self._between: list[Tensor] = []
        """What stretches hand over. It belongs to none of the two that use it."""
        for _ in range(num_passes):
            chain = [one.create_infer_request() for one in compiled]
            for before, after in pairwise(chain):
                port = before.model_outputs[0]
                tensor = load_openvino().Tensor(port.get_element_type(), port.get_shape())
                before.set_output_tensor(tensor)
                after.set_input_tensor(tensor)
                self._between.append(tensor)
            self._chains.put(chain)

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, D) features of (B, h, w, 3) uint8 RGB pictures, B the batch size."""
        first, *others = chain = self._chains.get()
        try:
            first.infer([pictures], share_inputs=True)
            for request in others:
                request.infer()
            found = chain[-1].get_output_tensor(0).data
            features: NDArray[np.float32] = np.array(found, np.float32)
        finally:
            self._chains.put(chain)
        return features.reshape(len(pictures), -1)


def _converted(
    module: nn.Module, shape: tuple[int, ...], precision: str, *, name: str
) -> list[Stretch]:
    """Return the module as OpenVINO's graphs in a row, the first one's input float32 of `shape`."""
    own = getattr(module, "openvino_stretches", None)
    if own is not None:  # drawn in a blink; following a module's calls takes seconds
        stretches: list[Stretch] = own(shape, precision)
        return stretches
    import torch

    openvino = load_openvino()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each library of the other's ways
            exported = torch.export.export(module, (torch.zeros(shape),))
            return [Stretch(openvino.convert_model(exported), precision)]
    except Exception as error:  # two compilers, anyone's code: anything may happen
        what = str(error).partition("\n")[0]
        raise EncoderError(
            name,
            f"OpenVINO cannot take it over ({type(error).__name__}: {what[:200]})",
            "Give --runtime torch.",
        ) from error


def _joinable(
    model: Model,
    *,
    normalization: tuple[Sequence[float], Sequence[float]] | None,
    is_last: bool,
) -> Model:
    """Fit a stretch to what comes before and after it.

    The first one begins with the pictures' bytes, (B, h, w, 3) uint8, normalized inside; the last
    one ends with float32. What is handed over between two is bfloat16, as (B, h, w, C): that is
    how convolutions want it.

    Args:
        normalization: mean and std of each channel, for the first stretch.
        is_last: whether it gives the features.
    """
    openvino = load_openvino()
    Layout, Type = openvino.Layout, openvino.Type
    steps: Any = openvino.preprocess.PrePostProcessor(model)
    steps.input().model().set_layout(Layout("NCHW"))
    steps.input().tensor().set_layout(Layout("NHWC"))
    if normalization is None:
        steps.input().tensor().set_element_type(Type.bf16)
    else:
        mean, std = ([255 * value for value in values] for values in normalization)
        steps.input().tensor().set_element_type(Type.u8)
        steps.input().preprocess().convert_element_type(Type.f32).mean(mean).scale(std)
    if is_last:
        steps.output().tensor().set_element_type(Type.f32)
    else:
        steps.output().model().set_layout(Layout("NCHW"))
        steps.output().tensor().set_element_type(Type.bf16).set_layout(Layout("NHWC"))
    built: Model = steps.build()
    return built


def _compiled(model: Model, *, precision: str, num_passes: int) -> CompiledModel:
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        # One thread to a pass, so that no sum depends on how many there are.
        "NUM_STREAMS": num_passes,
        "INFERENCE_NUM_THREADS": num_passes,
        # Several processes would choose the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    return load_openvino().Core().compile_model(model, "CPU", settings)
