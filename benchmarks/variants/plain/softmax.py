"""Softmaxes, as their formulas say."""

from __future__ import annotations

import torch

from benchmarks.variants.plain import plain


@plain("softmax", "softmax")
def softmax(part, scores):
    return torch.softmax(scores, dim=-1)


@plain("softmax", "consmax")
def consmax(part, scores):
    return torch.exp(scores - part.beta) / part.log_gamma.exp()


@plain("softmax", "softermax")
def softermax(part, scores):
    weights = torch.exp2(scores - scores.max(dim=-1, keepdim=True).values)
    return weights / weights.sum(dim=-1, keepdim=True)


@plain("softmax", "relumax")
def relumax(part, scores):
    weights = torch.relu(scores) / part.divisor
    return weights / (scores > -torch.inf).sum(dim=-1, keepdim=True) if part.length_scale else weights


@plain("softmax", "softmax1")
def softmax1(part, scores):
    largest = torch.maximum(scores.max(dim=-1, keepdim=True).values, part.c)
    powers = torch.exp(scores - largest)
    return powers / (torch.exp(part.c - largest) + powers.sum(dim=-1, keepdim=True))
