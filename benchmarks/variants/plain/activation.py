"""Activations, as their formulas say."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.variants.plain import plain

MODULES = {
    "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish, "selu": nn.SELU, "relu6": nn.ReLU6,
    "softsign": nn.Softsign, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid, "identity": nn.Identity,
}  # fmt: skip


@plain("activation", *MODULES)
def without_options(part, x):
    return MODULES[part.name]()(x)


@plain("activation", "gelu_tanh")
def gelu_tanh(part, x):
    return nn.functional.gelu(x, approximate="tanh")


@plain("activation", "elu", "celu")
def elu(part, x):
    return {"elu": nn.ELU, "celu": nn.CELU}[part.name](part.alpha)(x)


@plain("activation", "leaky_relu")
def leaky_relu(part, x):
    return nn.LeakyReLU(part.negative_slope)(x)


@plain("activation", "softplus")
def softplus(part, x):
    return nn.Softplus(part.beta)(x)


@plain("activation", "softshrink")
def softshrink(part, x):
    return nn.Softshrink(part.threshold)(x)


@plain("activation", "prelu")
def prelu(part, x):
    return torch.where(x > 0, x, part.learned * x)


@plain("activation", "squared_relu")
def squared_relu(part, x):
    return torch.relu(x) ** 2


@plain("activation", "relu_power")
def relu_power(part, x):
    return torch.relu(x) ** part.power


@plain("activation", "squared_gelu")
def squared_gelu(part, x):
    return nn.functional.gelu(x) ** 2


@plain("activation", "disco")
def disco(part, x):
    return x * torch.abs(x)


@plain("activation", "gelu_shifted")
def gelu_shifted(part, x):
    return nn.functional.gelu(x - part.learned)


@plain("activation", "snake")
def snake(part, x):
    alpha = part.learned.exp()
    return x + torch.sin(alpha * x) ** 2 / alpha


@plain("activation", "swish_beta")
def swish_beta(part, x):
    return x * torch.sigmoid(part.learned * x)


def lines(knots, heights, x):
    """Straight lines through points, all channels the same points, or each its own."""
    if len(heights) > 1:
        return torch.stack(
            [lines(k[None], h[None], v) for k, h, v in zip(knots, heights, x.unbind(-1), strict=True)], -1
        )
    knots, heights = knots[0], heights[0]
    piece = torch.bucketize(x, knots[1:-1])
    slopes = (heights[1:] - heights[:-1]) / (knots[1:] - knots[:-1])
    return heights[piece] + slopes[piece] * (x - knots[piece])


@plain("activation", "piecewise_linear")
def piecewise_linear(part, x):
    return lines(part.knots.expand(part.heights.shape), part.heights, x)


@plain("activation", "pfla")
def pfla(part, x):
    return lines(torch.cat([part.first, part.first + part.log_gaps.exp().cumsum(-1)], -1), part.heights, x)


@plain("activation", "learned_spline")
def learned_spline(part, x):
    """Natural cubic spline by its linear equations, in units of the gap."""
    n = part.config.points
    equations = 4 * torch.eye(n - 2, dtype=x.dtype) + torch.eye(n, dtype=x.dtype)[1:-1, 1:-1].roll(1, 0).tril(-1)
    equations = equations + torch.eye(n - 2, dtype=x.dtype).roll(1, 1).triu(1)
    bent = part.heights[:, 2:] - 2 * part.heights[:, 1:-1] + part.heights[:, :-2]
    second = nn.functional.pad(torch.linalg.solve(equations, 6 * bent.mT).mT, (1, 1))  # (R, n)
    u = (x + part.config.bound) * (n - 1) / (2 * part.config.bound)
    i = u.detach().clamp(0, n - 2).floor().long()
    h, m = part.heights, second
    row = torch.arange(x.shape[-1]) if len(h) > 1 else 0
    h0, h1, m0, m1 = h[row, i], h[row, i + 1], m[row, i], m[row, i + 1]
    t = u - i
    inside = (1 - t) * h0 + t * h1 + ((1 - t) ** 3 - (1 - t)) * m0 / 6 + (t**3 - t) * m1 / 6
    before = h0 + u * (h1 - h0 - m1 / 6)
    behind = h1 + (u - (n - 1)) * (h1 - h0 + m0 / 6)
    return torch.where(u < 0, before, torch.where(u > n - 1, behind, inside))
