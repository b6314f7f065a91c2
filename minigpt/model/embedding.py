"""From token to vector, and from vector to logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import Initialiser, Part
from minigpt.cost import Cost, Matmul, Work


class TokenEmbedding(Part):
    """tokens (B, T) int64 -> (B, T, d_model). Learns weight: (vocab_size, d_model)."""

    def __init__(self, vocab_size: int, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model))

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, "embedding", fan_in=self.weight.shape[1])

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight)

    def cost(self, work: Work) -> Cost:
        """One row is read per token."""
        n = work.all_tokens * self.weight.shape[1]
        return Cost(params=self.own_params(), weights_read={"native": n}, activations=n)


class Head(Part):
    """x (B, T, d_model) -> logits (B, T, vocab_size). Learns weight: (vocab_size, d_model), unless it is the
    embedding's."""

    def __init__(self, vocab_size: int, d_model: int, tied: TokenEmbedding | None):
        super().__init__()
        self.tied = tied is not None
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model)) if tied is None else tied.weight

    def init_parameters(self, init: Initialiser) -> None:
        if not self.tied:
            init.matrix(self.weight, "head", fan_in=self.weight.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    def cost(self, work: Work) -> Cost:
        """The whole matrix is read once per call, tied or not."""
        vocab_size, d_model = self.weight.shape
        rows = work.batch if work.last_only else work.all_tokens
        return Cost(
            params=0 if self.tied else self.own_params(),
            weights_read={"native": vocab_size * d_model},
            matmuls=(Matmul(rows, d_model, vocab_size),),
            activations=rows * (d_model + vocab_size),
        )
