"""Linear maps, as their formulas say."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.variants.plain import plain


def rounded(x, bits, affine=False):
    """Each row of the last dimension on a grid of its own; the gradient is that of x."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    if affine:
        step = (high - low) / (2**bits - 1)
        zero = torch.round(-low / step)
        values = (torch.clamp(torch.round(x / step) + zero, 0, 2**bits - 1) - zero) * step
    else:
        step = torch.maximum(high, -low) / (2 ** (bits - 1) - 1)
        values = torch.round(x / step) * step
    return x + (values - x).detach()


@plain("linear", "linear")
def linear(part, x):
    return F.linear(x, part.weight, part.bias)


@plain("linear", "int_qat")
def int_qat(part, x):
    weight = part.weight
    rows = weight.reshape(-1, part.sharing)
    return F.linear(x, rounded(rows, part.bits, part.affine).reshape(weight.shape), part.bias)


@plain("linear", "ternary")
def ternary(part, x):
    weight, scale = part.weight, part.weight.abs().mean().detach()
    values = torch.clamp(torch.round(weight / scale), -1, 1) * scale
    x = x if part.activation_bits is None else rounded(x, part.activation_bits)
    return F.linear(x, weight + (values - weight).detach(), part.bias)


@plain("linear", "binary")
def binary(part, x):
    weight = part.weight
    values = torch.where(weight > weight.mean(), 1.0, -1.0) * weight.abs().mean()
    x = x if part.activation_bits is None else rounded(x, part.activation_bits)
    return F.linear(x, weight + (values - weight).detach(), part.bias)


@plain("linear", "adaptive_bits")
def adaptive_bits(part, x):
    weight, beta = part.weight, torch.clamp(8 * part.width, 2, 8)
    below = torch.floor(beta).clamp(max=7).detach()
    lower, upper = (rounded(weight, bits).detach() for bits in (below, below + 1))
    here = torch.where(torch.round(beta) > below, upper, lower)
    slope = (beta - beta.detach()) * (upper - lower)
    return F.linear(x, weight + (here - weight).detach() + slope, part.bias)


@plain("linear", "low_rank")
def low_rank(part, x):
    return F.linear(F.linear(x, part.a), part.b, part.bias)


@plain("linear", "kan_linear")
def kan_linear(part, x):
    t = torch.tanh(x)
    before, now, features = torch.ones_like(t), t, [t]
    for k in range(2, part.degree + 1):
        before, now = now, ((2 * k - 1) * t * now - (k - 1) * before) / k
        features.append(now)
    y = F.linear(x * torch.sigmoid(x), part.weight, part.bias)
    return y + F.linear(torch.cat(features, dim=-1), part.coefficients)
