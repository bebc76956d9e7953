"""Tensors of a weights file, their digest, and whether they fit a backbone. Knows no encoder."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from playmill.errors import EncoderError

HEADS = (
    "fc",
    "_fc",
    "classifier",
    "head",
    "heads",
    "head_dist",
    "aux",
    "aux1",
    "aux2",
    "AuxLogits",
)
"""First parts of the names that classifiers have; a file may hold any of them in surplus."""

_NESTED = ("state_dict", "model")
_WRAPPER = "module."
_NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """What was read from a weights file."""

    digest: str
    """sha256 of the very bytes that were read, hex."""
    tensors: dict[str, Tensor]
    """By name, in the order of the file."""


def read_weights(path: Path, *, encoder: str) -> Weights:
    """Read a .safetensors file, or a .pth/.pt file with torch's safe unpickler.

    The content decides, not the name. Checkpoints that keep the tensors under "state_dict" or
    "model", or under the names DataParallel gives ("module."), are unpacked.

    Raises:
        EncoderError: the file cannot be read, or holds no tensors.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EncoderError(
            encoder, f"the weights file {path} cannot be read ({error})", "Check --weights."
        ) from error
    try:
        found = _parse(content)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise EncoderError(
            encoder,
            f"{path} is no weights file ({_first_line(error)})",
            "Give a .safetensors file, or a .pth that holds tensors alone: a state dict.",
        ) from error
    tensors = _tensors_of(found)
    if not tensors:
        raise EncoderError(
            encoder, f"{path} holds no tensors", "Save the model's state_dict() and give that file."
        )
    return Weights(digest=hashlib.sha256(content).hexdigest(), tensors=tensors)


def _parse(content: bytes) -> object:
    """Return what the bytes hold. A safetensors file begins with a length and then a brace."""
    if content[8:9] == b"{":
        return safetensors.torch.load(content)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensors_of(found: object) -> dict[str, Tensor]:
    """Return the tensors by name, out of whatever a checkpoint wraps them in."""
    while isinstance(found, Mapping):
        inner = next((found[key] for key in _NESTED if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name).removeprefix(_WRAPPER): value
        for name, value in found.items()
        if isinstance(value, Tensor)
    }


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of a state dict: names in order, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fit(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    *,
    encoder: str,
    heads: Collection[str] = HEADS,
) -> dict[str, Tensor]:
    """Return the tensors that a backbone expects, with its classifier already gone.

    Only the head may differ: names in surplus must belong to one of `heads`. Counters of batch
    norms may be missing; nothing reads them.

    Args:
        tensors: as read from a file.
        expected: shape of each tensor of the backbone by name.
    Raises:
        EncoderError: a tensor is missing, of another shape, or in surplus; it names them.
    """
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in tensors and name not in counters]
    surplus = [
        name for name in tensors if name not in expected and name.partition(".")[0] not in heads
    ]
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(shape)
    ]
    problems = [
        f"{what}: {_some(names)}"
        for what, names in (
            ("missing", missing),
            ("unexpected", surplus),
            ("of another shape", reshaped),
        )
        if names
    ]
    if problems:
        raise EncoderError(
            encoder,
            f"the weights do not fit; {'; '.join(problems)}",
            "Give the weights of this very model; only its head may differ.",
        )
    return {name: tensors[name] for name in expected if name in tensors}


def shapes_of(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _some(names: list[str]) -> str:
    """Name the first few and count the rest."""
    shown, rest = names[:_NAMES_SHOWN], len(names) - _NAMES_SHOWN
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
