"""A backbone compiled by OpenVINO for the CPU. Knows arrays and modules, no video and no files.

OpenVINO lays tensors out as the processor's vector units want them and fuses what torch computes
one after the other: the same features in less time (docs/decisions/runtimes.md has the figures).
"""

from __future__ import annotations

import queue
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from playmill.errors import EncoderError

if TYPE_CHECKING:
    from openvino import CompiledModel, InferRequest, Model
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


class OpenVinoBackbone:
    """Pictures to features; several passes may run at once, one thread each.

    Args:
        encoder: the backbone; its module stays as it is.
        batch_size: pictures in every pass.
        precision: "fp32" or "bf16".
        num_passes: passes that may run at once.
    Raises:
        EncoderError: OpenVINO cannot take the module over, or computes something else.
    """

    def __init__(
        self, encoder: Encoder, *, batch_size: int, precision: str, num_passes: int
    ) -> None:
        self._name = encoder.spec.name
        shape = (batch_size, 3, *encoder.spec.input_size)
        model = _with_preprocessing(
            _converted(encoder.module, shape, name=self._name),
            mean=encoder.spec.mean,
            std=encoder.spec.std,
        )
        compiled = _compiled(model, precision=precision, num_passes=num_passes)
        self._requests: queue.SimpleQueue[InferRequest] = queue.SimpleQueue()
        for _ in range(num_passes):
            self._requests.put(compiled.create_infer_request())

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, D) features of (B, h, w, 3) uint8 RGB pictures, B the batch size."""
        request = self._requests.get()
        try:
            request.infer([pictures], share_inputs=True)
            features: NDArray[np.float32] = np.array(request.get_output_tensor(0).data, np.float32)
        finally:
            self._requests.put(request)
        return features.reshape(len(pictures), -1)


def _converted(module: nn.Module, shape: tuple[int, ...], *, name: str) -> Model:
    """Return the module as OpenVINO's graph, its input float32 of `shape`."""
    own = getattr(module, "openvino_model", None)
    if own is not None:  # drawn in a blink; following a module's calls takes seconds
        model: Model = own(shape)
        return model
    import torch

    openvino = load_openvino()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each library of the other's ways
            return openvino.convert_model(torch.export.export(module, (torch.zeros(shape),)))
    except Exception as error:  # two compilers, anyone's code: anything may happen
        what = str(error).partition("\n")[0]
        raise EncoderError(
            name,
            f"OpenVINO cannot take it over ({type(error).__name__}: {what[:200]})",
            "Give --runtime torch.",
        ) from error


def _with_preprocessing(model: Model, *, mean: Sequence[float], std: Sequence[float]) -> Model:
    """Let the graph begin with the pictures' bytes: (B, h, w, 3) uint8, normalized inside."""
    openvino = load_openvino()
    Layout, Type = openvino.Layout, openvino.Type
    steps: Any = openvino.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    steps.input().model().set_layout(Layout("NCHW"))
    steps.input().preprocess().convert_element_type(Type.f32).mean(
        [255 * value for value in mean]
    ).scale([255 * value for value in std])
    steps.output().tensor().set_element_type(Type.f32)
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
