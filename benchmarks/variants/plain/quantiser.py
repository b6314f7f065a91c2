"""Quantisers, as their formulas say."""

from __future__ import annotations

from benchmarks.variants.plain import plain
from benchmarks.variants.plain.linear import rounded


@plain("quantiser", "none")
def none(part, x):
    return x


@plain("quantiser", "int")
def integers(part, x):
    return rounded(x, part.bits, part.affine)
