"""Embeddings, as their formulas say."""

from __future__ import annotations

import math

from benchmarks.variants.plain import plain


def rows(part):
    return part.weight / part.weight.norm(dim=1, keepdim=True) if part.normalised else part.weight


@plain("embedding", "table")
def table(part, tokens, call, state=None):
    x = rows(part)[tokens]
    return x if part.scale is None else math.sqrt(x.shape[-1]) * x


@plain("embedding", "table", method="unembed")
def table_back(part, x):
    return x @ rows(part).T


@plain("embedding", "factorised")
def factorised(part, tokens, call, state=None):
    x = part.weight[tokens] @ part.up.T
    return x if part.scale is None else math.sqrt(x.shape[-1]) * x


@plain("embedding", "factorised", method="unembed")
def factorised_back(part, x):
    return x @ part.up @ part.weight.T
