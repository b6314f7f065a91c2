"""The quantiser axis: rounding of activations at named places of attention and MLP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from minigpt.components.base import Part
from minigpt.cost import Cost, Work
from minigpt.registry import declare

declare("quantiser", default="none", scope="block")

ROUNDED = ("attention_input", "q", "k", "v", "attention_output")
"""Sites of quantisers that an attention with keys and values of its own calls; probabilities are rounded in one place
for all."""


class Quantiser(Part):
    """Built as ``cls(config, ctx)``. x: (..., width) -> the same shape, rounded for products of few bits.

    Each row of the last dimension, one token's, is rounded alone: a scale over the whole tensor would carry the future
    into the past. Gradients pass straight through. Zero stays exactly zero: a masked probability is none.

    Sites: attention_input, q, k, probabilities, v, attention_output; mlp_input, mlp_hidden, mlp_output. Inputs are what
    the sub-layer's first maps read, outputs what it hands to the stream; q, k, probabilities and v are the operands of
    the two products; mlp_hidden is what the last layer reads.

    bits: width of the whole numbers it rounds to, the ``left_bits`` of the product that reads them; None: it rounds
    nothing.
    """

    bits: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def quantiser_costs(quantise: Any, work: Work, sites: Mapping[str, tuple[int, int]]) -> dict[str, Cost]:
    """What the quantisers of :meth:`BuildContext.quantisers` cost, as ``parts`` of who keeps them in ``self.quantise``.

    sites: site -> rows that pass there in this call, elements of all of them.
    """
    return {f"quantise.{site}": quantise[site].cost(work.over(*passing)) for site, passing in sites.items()}


def attention_quantiser_costs(quantise: Any, work: Work, d_model: int, **operands: tuple[int, int]) -> dict[str, Cost]:
    """Those of an attention's input and output, a row per token, and of the operands in between, a row per head.

    operands: site -> heads and width of what is rounded there.
    """
    tokens = work.all_tokens
    sites = {site: (tokens, tokens * d_model) for site in ("attention_input", "attention_output")}
    sites |= {site: (tokens * heads, tokens * heads * width) for site, (heads, width) in operands.items()}
    return quantiser_costs(quantise, work, sites)


def mlp_quantiser_costs(quantise: Any, work: Work, d_model: int, hidden_elements: int) -> dict[str, Cost]:
    """Those of an MLP's three sites: one row per token at each."""
    outside = (work.all_tokens, work.all_tokens * d_model)
    sites = {"mlp_input": outside, "mlp_hidden": (work.all_tokens, hidden_elements), "mlp_output": outside}
    return quantiser_costs(quantise, work, sites)
