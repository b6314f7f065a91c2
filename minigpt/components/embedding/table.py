"""The token table."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.embedding.base import Embedding
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import options


@register("embedding", "table")
class TokenTable(Embedding, nn.Embedding):
    """One learned vector per token.  Learns weight: (vocab_size, d_model), which a tied head multiplies with.

    It is a ``torch.nn.Embedding``, so that what looks for those finds it. scaled: vectors are multiplied by
    sqrt(d_model), so that a table drawn for a tied head is of unit size in the stream (Vaswani et al. 2017,
    arXiv:1706.03762; Gemma, arXiv:2403.08295).
    """

    @options
    class Config:
        scaled: bool = False

    cases = [{"scaled": True}]

    def __init__(self, config: Config, ctx: BuildContext):
        nn.Embedding.__init__(self, ctx.vocab_size, ctx.d_model)
        self.scale = math.sqrt(ctx.d_model) if config.scaled else None

    def reset_parameters(self) -> None:
        """Nothing: first values come from :meth:`init_parameters`."""

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, "embedding", fan_in=self.embedding_dim)

    def forward(self, tokens: Tensor, call: Call, state: Any = None) -> Tensor:  # type: ignore[override]
        vectors = F.embedding(tokens, self.weight)
        return vectors if self.scale is None else vectors * self.scale

    def unembed(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    def cost(self, work: Work) -> Cost:
        """One row is read per token."""
        n = work.all_tokens * self.embedding_dim
        ops = {} if self.scale is None else {"mul": n}
        activations = n if self.scale is None else 3 * n
        return Cost(params=self.own_params(), weights_read={"native": n}, ops=ops, activations=activations)

    def unembed_cost(self, work: Work) -> Cost:
        """The whole table is read once per call."""
        vocab_size, d_model = self.weight.shape
        return Cost(
            weights_read={"native": vocab_size * d_model},
            matmuls=(Matmul(work.rows, d_model, vocab_size),),
            activations=work.rows * (d_model + vocab_size),
        )
