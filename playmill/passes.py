"""A batch on its way through the backbone, and the features that it comes back as.

A GPU works on what it was told in its own time: a pass that has begun is not one that has ended.
On a CPU it is; the code is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from playmill.errors import EncoderError

_FLOAT16_MAX = float(np.finfo(np.float16).max)
_FLOAT16_OVERFLOW = 65520.0
"""From here on float32 rounds to an infinite float16."""


class FullBatch:
    """Pictures that go through the backbone together, with what pads them.

    Args:
        pictures: (B, h, w, 3) uint8, on the host; kept, as a GPU may not have copied them yet.
        features: (B, D) float32, where they are computed: on a GPU they may not be there yet.
        num_pictures: how many are no padding.
    """

    def __init__(self, pictures: Tensor, features: Tensor, *, num_pictures: int) -> None:
        on_gpu = features.device.type == "cuda"
        self._pictures = pictures
        self._num_pictures = num_pictures
        self._on_host = torch.empty(features.shape, dtype=torch.float32, pin_memory=on_gpu)
        self._on_host.copy_(features, non_blocking=True)
        self._arrived: torch.cuda.Event | None = None
        if on_gpu:
            # A thread that waits sleeps: decoding needs the core that it would spin on.
            self._arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(features.device))

    def features(self) -> NDArray[np.float32]:
        """Wait for the features of what is no padding, (b, D)."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found: NDArray[np.float32] = self._on_host[: self._num_pictures].numpy()
        return found


class Pass:
    """A batch that has begun; `FrameProcessor.begin` makes it.

    Args:
        full: the batch, or its pieces where the device's memory did not suffice for it.
        batch_used: pictures that go through the backbone together.
        encoder: its name, for errors.
        precision: its arithmetic, for errors.
    """

    def __init__(
        self, full: Sequence[FullBatch], batch_used: int, *, encoder: str, precision: str
    ) -> None:
        self.batch_used = batch_used
        self._full = full
        self._encoder, self._precision = encoder, precision

    def features(self) -> NDArray[np.float16]:
        """Wait for the features, (b, D).

        Raises:
            EncoderError: a feature is not finite, or too large for float16.
        """
        return np.concatenate([self._storable(one.features()) for one in self._full])

    def _storable(self, features: NDArray[np.float32]) -> NDArray[np.float16]:
        """Return the features as stored, or refuse: a wrong dataset is worse than none."""
        largest = float(np.abs(features).max())
        if np.isfinite(largest) and largest < _FLOAT16_OVERFLOW:
            return features.astype(np.float16)
        raise EncoderError(
            self._encoder,
            f"at precision {self._precision} it gave a feature of {largest:g}; features are stored"
            f" as float16, which ends at {_FLOAT16_MAX:g}",
            "Check the weights, try --precision fp32, or scale the features in a factory.",
        )
