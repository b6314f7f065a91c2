"""The plain head."""

from __future__ import annotations

import dataclasses
from collections import Counter

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.embedding.base import Embedding
from minigpt.components.head.base import Head
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("head", "linear")
class LinearHead(Head):
    """logits = x W^T, W the embedding's table or, with ``model.tie_embeddings=false``, a matrix that it learns:
    (vocab_size, d_model).

    x (B, T, d_model) -> logits (B, T, vocab_size). scale: a factor on the logits, as in Cohere's models. softcap c:
    logits become c tanh(logits / c), after that; Gemma 2, arXiv:2408.00118.
    """

    input_maps = ("linear",)

    @options
    class Config:
        scale: PositiveFloat = 1.0
        softcap: PositiveFloat | None = None

    cases = [{"softcap": 2.0}, {"scale": 0.25}]

    def __init__(self, config: Config, ctx: BuildContext, embedding: Embedding | None):
        super().__init__(config, ctx, embedding)
        self.scale, self.softcap, self.vocab_size = config.scale, config.softcap, ctx.vocab_size

    def forward(self, x: Tensor, call: Call) -> Tensor:
        logits = self.score(x)
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def cost(self, work: Work) -> Cost:
        cost, n = super().cost(work), work.rows * self.vocab_size
        ops: Counter[str] = Counter(cost.ops)
        activations = cost.activations
        if self.scale != 1:
            ops["mul"] += n
            activations += 2 * n
        if self.softcap is not None:
            ops.update({"mul": 2 * n, "tanh": n})
            activations += 6 * n
        return dataclasses.replace(cost, ops=dict(ops), activations=activations)
