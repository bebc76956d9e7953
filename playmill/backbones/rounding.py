"""Weights in bfloat16 that keep what a layer gives on average. Knows tensors, no graphs.

Rounding each weight to the nearest bfloat16 shifts every output by the same small amount all over
a picture that is alike all over: a wall, a sky. Of two bfloat16 values that a weight lies between,
the one that is farther off is taken where this brings the shift of an average input to nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import ndtr

_MANTISSA_BITS = 8
"""Of bfloat16, with the one that is not stored."""
_MOVES = 16
"""The most weights of one output that are not rounded to the nearest."""
_WORTH_IT = 0.999
"""A move that leaves more than this of the shift is none."""


def keeping_the_mean(kernel: Tensor, bias: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Round a layer so that its output for an average input stays what it was.

    Args:
        kernel: (O, I, k, k) float32.
        bias: (O,) float32; it is rounded to the nearest, and what that shifts is made up for, too.
        mean: average of each channel that the kernel sees, float64, (1, I, 1, 1), or (O, 1, 1, 1)
            where each output has an input of its own.
    Returns:
        Both, float32, with values that bfloat16 holds. Every weight is one of its two neighbours
        in bfloat16.
    Source:
        Means from batch norms instead of pictures: Nagel et al., "Data-Free Quantization Through
        Weight Equalization and Bias Correction", 2019; there the bias takes up the shift, which is
        in bfloat16 itself here.
    """
    exact = kernel.double().reshape(len(kernel), -1)
    weights = exact.bfloat16().double()
    means = mean.expand(kernel.shape).reshape(exact.shape)
    near_bias = bias.bfloat16()
    shift = ((weights - exact) * means).sum(1) + (near_bias.double() - bias.double())
    other = _other_neighbour(exact, weights)
    moves = (other - weights) * means
    for _ in range(_MOVES):
        left, chosen = (shift[:, None] + moves).abs().min(1)
        rows = (left < _WORTH_IT * shift.abs()).nonzero()[:, 0]
        if not len(rows):
            break
        columns = chosen[rows]
        weights[rows, columns] = other[rows, columns]
        shift[rows] += moves[rows, columns]
        moves[rows, columns] = math.inf  # once is enough
    return weights.reshape(kernel.shape).float(), near_bias.float()


def _other_neighbour(exact: Tensor, nearest: Tensor) -> Tensor:
    """Return the bfloat16 value on the other side of each `exact`, float64."""
    _, exponent = torch.frexp(exact)
    step = torch.ldexp(torch.ones_like(exact), exponent - _MANTISSA_BITS)
    return torch.where(nearest > exact, nearest - step, nearest + step)


def mean_of_clamped(mean: Tensor, deviation: Tensor, *, low: float, high: float) -> Tensor:
    """Return the mean of a normally distributed value that is clamped to [low, high], float64."""

    def mean_above(bound: float) -> Tensor:
        z = (mean - bound) / deviation
        density = torch.exp(-z * z / 2) / math.sqrt(math.tau)
        above: Tensor = (mean - bound) * ndtr(z) + deviation * density
        return above

    clamped: Tensor = low + mean_above(low) - mean_above(high)
    return clamped
