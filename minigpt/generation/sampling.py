"""From logits to the next token."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from minigpt.generation.config import Sampling


def draws(seed: int, batch: int, tokens: int) -> Tensor:
    """Random numbers in [0, 1) for every choice to come: (batch, tokens) float64, on the CPU.

    Row i has a generator of its own, seeded by (seed, i): its draws depend neither on the other rows nor on the device.
    """
    rows = []
    for row in range(batch):
        digest = hashlib.sha256(f"{seed}:{row}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        rows.append(torch.rand(tokens, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def choose(logits: Tensor, sampling: Sampling, draw: Tensor) -> Tensor:
    """logits: (B, V), draw: (B,) in [0, 1) -> tokens (B,).

    The token at which the cumulative distribution, in token order, first exceeds the draw.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    cumulative = probabilities(logits, sampling).cumsum(dim=-1)  # (B, V)
    point = draw[:, None].to(cumulative) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True)[:, 0]


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """logits: (B, V) -> the distribution sampled from: (B, V) float64, 0 where top_k or top_p exclude a token.

    temperature must be above 0. Of equally likely tokens at the edge of top_k or top_p, any may be kept.
    """
    logits = logits.double()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature  # the largest is 0: no overflow
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        kept, places = logits.topk(sampling.top_k, dim=-1)
        logits = torch.full_like(logits, -math.inf).scatter(-1, places, kept)
    weights = logits.softmax(dim=-1)
    if sampling.top_p is None:
        return weights
    ordered, places = weights.sort(dim=-1, descending=True)
    likelier = ordered.cumsum(dim=-1) - ordered  # what the tokens before this one already hold
    return torch.zeros_like(weights).scatter(-1, places, ordered.masked_fill(likelier >= sampling.top_p, 0.0))
