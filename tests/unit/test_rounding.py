"""bfloat16 weights: neighbours of what they were, and the mean of the output stays."""

from __future__ import annotations

import pytest
import torch

from playmill.backbones.rounding import keeping_the_mean, mean_of_clamped

SHAPES = {
    "pointwise": ((24, 16, 1, 1), (1, 16, 1, 1)),
    "depthwise": ((32, 1, 5, 5), (32, 1, 1, 1)),
    "full": ((8, 3, 3, 3), (1, 3, 1, 1)),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_the_mean_of_the_output_stays(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    shape, mean_shape = SHAPES[kind]
    kernel = torch.randn(shape, generator=generator)
    bias = torch.randn(shape[0], generator=generator)
    mean = torch.rand(mean_shape, generator=generator, dtype=torch.float64) + 0.1
    rounded, near = keeping_the_mean(kernel, bias, mean)
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert torch.equal(near, bias.bfloat16().float())
    step = torch.ldexp(torch.ones_like(kernel), torch.frexp(kernel)[1] - 8)
    assert bool(((rounded - kernel).abs() <= step).all())

    def shift(weights: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        change = (weights.double() - kernel.double()) * mean
        return (change.sum((1, 2, 3)) + offset.double() - bias.double()).abs()

    plain = shift(kernel.bfloat16().float(), near)
    assert float(shift(rounded, near).mean()) < 0.05 * float(plain.mean())
    assert bool((shift(rounded, near) <= plain).all())


def test_what_bfloat16_holds_stays_as_it_is() -> None:
    kernel = torch.tensor([[[[0.5]], [[-1.25]]]])
    bias = torch.tensor([2.0])
    rounded, near = keeping_the_mean(kernel, bias, torch.ones(1, 2, 1, 1, dtype=torch.float64))
    assert torch.equal(rounded, kernel)
    assert torch.equal(near, bias)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-3.0, 0.5), (5.5, 2.0), (9.0, 0.1)])
def test_the_mean_of_a_clamped_value_is_that_of_many(mean: float, deviation: float) -> None:
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(400_000, generator=generator, dtype=torch.float64) * deviation + mean
    found = mean_of_clamped(
        torch.tensor([mean], dtype=torch.float64),
        torch.tensor([deviation], dtype=torch.float64),
        low=0.0,
        high=6.0,
    )
    assert float(found) == pytest.approx(float(many.clamp(0, 6).mean()), abs=0.01)
