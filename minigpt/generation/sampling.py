"""From logits to the next token."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from minigpt.generation.config import Sampling

MANY = 1024  # tokens; with fewer, the simpler of two ways is the faster


class Draws:
    """Random numbers in [0, 1) for the choices of a batch, as many as are asked for.

    Every row has a generator of its own: its draws depend neither on the other rows nor on the device.
    seed: of the batch, whose row i draws stream i; or of each row, which draws as a batch of it alone would.
    """

    def __init__(self, seed: int | Sequence[int], rows: int):
        streams = [(seed, row) for row in range(rows)] if isinstance(seed, int) else [(each, 0) for each in seed]
        digests = [hashlib.sha256(f"{each}:{stream}".encode()).digest() for each, stream in streams]
        self._generators = [torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")) for digest in digests]

    def next(self, tokens: int) -> Tensor:
        """The draws of the next choices: (B, tokens) float64, on the CPU."""
        return torch.stack([torch.rand(tokens, generator=g, dtype=torch.float64) for g in self._generators])


def choose(logits: Tensor, sampling: Sampling, draw: Tensor) -> Tensor:
    """logits: (B, V), draw: (B,) in [0, 1) -> tokens (B,).

    The token at which the cumulative distribution, in token order, first exceeds the draw.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    weights, tokens = _candidates(logits, sampling)
    cumulative = weights.cumsum(dim=-1)  # (B, K)
    point = draw[:, None].to(cumulative) * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, point, right=True)  # (B, 1)
    return (place if tokens is None else tokens.gather(-1, place))[:, 0]


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """logits: (B, V) -> the distribution sampled from, not normalised: (B, V) float64, 0 where a token is excluded.

    temperature must be above 0. Of equally likely tokens at the edge of top_k or top_p, any may be kept.
    """
    weights, tokens = _candidates(logits, sampling)
    return weights if tokens is None else weights.new_zeros(logits.shape).scatter(-1, tokens, weights)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits (B, V) with those of ``seen`` tokens (B, V bool) made smaller: a positive one divided by ``penalty``, a
    negative one multiplied. Keskar et al. 2019, arXiv:1909.05858, in the form that transformers computes."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _candidates(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """Weights (B, K) float64 of the tokens that may be drawn, and which these are, in token order: None for all."""
    tokens = None
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        tokens = logits.topk(sampling.top_k, dim=-1).indices.sort(dim=-1).values
        logits = logits.gather(-1, tokens)
    scaled = logits.to(torch.float64, copy=True)
    scaled.sub_(scaled.amax(dim=-1, keepdim=True)).div_(sampling.temperature)  # the largest is 0: no overflow
    weights = scaled.softmax(dim=-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        weights = _nucleus(weights, sampling.top_p)
    if sampling.min_p:
        weights = weights.masked_fill_(scaled < math.log(sampling.min_p), 0.0)
    return weights, tokens


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """weights: (B, K), each row summing to 1; all but the likeliest that together reach ``top_p`` become 0."""
    if weights.device.type == "cpu" and weights.shape[-1] > MANY:
        return _nucleus_of_many(weights, top_p)
    ordered, places = weights.sort(dim=-1, descending=True)
    likelier = ordered.cumsum(dim=-1) - ordered  # what the tokens before this one already hold
    return torch.zeros_like(weights).scatter(-1, places, ordered.masked_fill(likelier >= top_p, 0.0))


def _nucleus_of_many(weights: Tensor, top_p: float) -> Tensor:
    """The same on a CPU: numpy sorts values ten times as fast as torch sorts values with their places."""
    ordered = torch.from_numpy(np.sort(weights.numpy(), axis=-1)).flip(-1)
    count = (ordered.cumsum(dim=-1) - ordered < top_p).sum(dim=-1, keepdim=True)
    edge = ordered.gather(-1, count - 1)
    equal = weights == edge
    room = count - (weights > edge).sum(dim=-1, keepdim=True)  # for tokens at the edge, which may be equally likely
    return weights.masked_fill_((weights < edge) | (equal & (equal.cumsum(dim=-1) > room)), 0.0)
