"""The compiled backbone computes the module's features, in any number of passes, or refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from playmill import encoders
from playmill.backbones.openvino import OpenVinoBackbone
from playmill.config import PipelineConfig
from playmill.encoders import Encoder
from playmill.errors import EncoderError, EncoderUnavailable
from playmill.frame_processor import FrameProcessor
from playmill.processor import has_bf16

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def lite0() -> Encoder:
    return encoders.load("efficientnet_lite0", device="cpu")


def noise(num_pictures: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (num_pictures, *size, 3), np.uint8)


def with_module(module: nn.Module) -> Encoder:
    """Return an encoder of 64x64 pictures that is this module."""
    return replace(encoders.load("mean_pixel", device="cpu"), module=module.eval())


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(1), nn.Linear(8192, 5)
    )


class Branching(nn.Module):
    """Looks at its input to decide what to do, which no compiled graph can."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))


class InTraining(nn.Module):
    """Gives another feature at every call."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.rand(len(x), 4) - 0.5 + 0 * x.mean()


def test_the_default_encoder_is_drawn_as_it_computes(lite0: Encoder) -> None:
    pictures = noise(3, (224, 224))
    compiled = OpenVinoBackbone(lite0, batch_size=3, precision="fp32", num_passes=1)
    values = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = lite0.module((values - 0.5) / 0.5).numpy()
    np.testing.assert_allclose(compiled(pictures), expected, rtol=0, atol=2e-5)


def test_any_module_is_taken_over_with_its_preprocessing() -> None:
    encoder = with_module(small_network())
    spec = replace(
        encoder.spec,
        input=encoders.Preprocessing(size=(64, 64), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
    )
    config = PipelineConfig(encoder="team:build", runtime="openvino", batch_size=4)
    compiled = FrameProcessor.of_run(replace(encoder, spec=spec), config)
    plain = FrameProcessor.of_run(replace(encoder, spec=spec), replace(config, runtime="torch"))
    pictures = noise(4, (64, 64))
    found, expected = compiled.extract(pictures), plain.extract(pictures)
    assert found.shape == (4, 5)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


def test_short_batches_and_passes_side_by_side_change_no_bit(lite0: Encoder) -> None:
    pictures = noise(4, (224, 224))
    features = [
        FrameProcessor.of_run(lite0, PipelineConfig(batch_size=4, num_threads=threads))
        for threads in (1, 3)
    ]
    whole = features[0].extract(pictures)
    np.testing.assert_array_equal(features[1].extract(pictures), whole)
    np.testing.assert_array_equal(features[1].extract(pictures[:1]), whole[:1])


def picture(seed: int) -> NDArray[np.uint8]:
    """Return a picture with wide fields and fine structure, (1, 224, 224, 3)."""
    generator = np.random.default_rng(seed)
    layers = [
        generator.normal(0, 25, (size, size, 3)).repeat(224 // size, 0).repeat(224 // size, 1)
        for size in (2, 4, 7, 14, 28, 56, 112, 224)
    ]
    return np.clip(np.sum(layers, axis=0) + 110, 0, 255).astype(np.uint8)[None]


@pytest.mark.skipif(not has_bf16(), reason="the processor has no bf16")
def test_bf16_is_as_good_as_what_rounds_pictures(lite0: Encoder) -> None:
    exact, near = (
        FrameProcessor.of_run(
            lite0, PipelineConfig(batch_size=1, precision=precision, num_threads=1)
        )
        for precision in ("fp32", "bf16")
    )
    assert near.precision == "bf16"
    for seed in range(4):
        one, other = exact.extract(picture(seed)).ravel(), near.extract(picture(seed)).ravel()
        assert not np.array_equal(one, other)
        one, other = one.astype(np.float64), other.astype(np.float64)
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.9995


def test_a_processor_without_bf16_is_not_taken_for_one_that_has_it(
    lite0: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playmill.backbones.openvino.has_bf16", lambda: False)
    config = PipelineConfig(batch_size=1, precision="bf16", num_threads=1)
    with pytest.raises(EncoderUnavailable, match=r"does not compute in bf16.*--precision fp32"):
        FrameProcessor.of_run(lite0, config)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Branching(), "OpenVINO cannot take it over .*Give --runtime torch"),
        (InTraining(), "whose cosine to those of the module.*Give --runtime torch"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_compiled_faithfully_is_refused(module: nn.Module, message: str) -> None:
    config = PipelineConfig(encoder="team:build", runtime="openvino", batch_size=2)
    with pytest.raises(EncoderError, match=message):
        FrameProcessor.of_run(with_module(module), config)


def test_its_makers_are_told_nothing() -> None:
    program = (
        "import sys; from playmill.backbones.openvino import load_openvino; load_openvino();"
        "import openvino.tools.ovc as ovc;"
        "sys.exit('stub' not in type(ovc.telemetry).__module__)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
