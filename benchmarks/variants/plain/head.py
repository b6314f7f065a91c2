"""Heads, as their formulas say."""

from __future__ import annotations

import torch

from benchmarks.variants.plain import plain


@plain("head", "linear")
def linear(part, x, call):
    weight = part.tied_to[0].weight if part.linear is None else part.linear.weight
    logits = part.scale * (x @ weight.T)
    return logits if part.softcap is None else part.softcap * torch.tanh(logits / part.softcap)
