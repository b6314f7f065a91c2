"""MLPs, as their formulas say."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from benchmarks.variants.plain import plain


def mapped(part, x):
    return linear(x, part.weight, part.bias)


@plain("mlp", "mlp")
def mlp(part, x, call):
    return mapped(part.down, part.activation(mapped(part.up, x)))


@plain("mlp", "glu")
def glu(part, x, call):
    return mapped(part.down, part.activation(mapped(part.gate, x)) * mapped(part.up, x))


@plain("mlp", "identity")
def identity(part, x, call):
    return torch.zeros_like(x) if part.silent else x


@plain("mlp", "dual_path")
def dual_path(part, x, call):
    h = mapped(part.gate if part.gated else part.up, x)
    positive = part.activation(h - part.offset)
    negative = part.activation(-(h + part.offset))
    if part.gated:
        positive, negative = positive * mapped(part.up, x), negative * mapped(part.up, x)
    first, second = part.down.weight.chunk(2, dim=1)
    return linear(positive, first, part.down.bias) + linear(negative, second)  # the sign is in the matrix
