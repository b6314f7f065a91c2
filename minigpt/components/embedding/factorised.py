"""A token table of low rank."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.embedding.base import EXAMPLE, StoredRows
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Cost, Matmul, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import FilePath, PositiveInt, options


@register("embedding", "factorised")
class FactorisedTable(StoredRows):
    """x = U E[token]: a narrow table, widened by one matrix.  Lan et al. 2019 (ALBERT), arXiv:1909.11942.

    A tied head goes the same way back: logits = E U^T x. rank: width of the table; None is a quarter of d_model.
    scaled, file and frozen are as in ``table``; a file holds the narrow table, which may thus be of vectors made
    elsewhere.

    Learns weight E: (vocab_size, rank), and up U: (d_model, rank).
    """

    @options
    class Config:
        rank: PositiveInt | None = None
        scaled: bool = False
        file: FilePath | None = None
        frozen: bool = False

    cases = [{"rank": 5, "scaled": True}, {"file": EXAMPLE, "frozen": True}]
    changes = {"file": "start", "frozen": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext):  # type: ignore[override]
        rank = config.rank or max(1, ctx.d_model // 4)
        if rank >= ctx.d_model:
            raise UserError(
                f"embedding.rank: {rank} is no less than model.d_model={ctx.d_model}, so two factors would have more "
                f"parameters than one table. Take less, or embedding=table"
            )
        self.build_table(ctx.vocab_size, rank, config.file, config.frozen)
        self.up = nn.Parameter(torch.empty(ctx.d_model, rank))
        self.scale = math.sqrt(ctx.d_model) if config.scaled else None

    def init_parameters(self, init: Initialiser) -> None:
        super().init_parameters(init)
        init.matrix(self.up, "weight", fan_in=self.embedding_dim)

    def forward(self, tokens: Tensor, call: Call, state: Any = None) -> Tensor:  # type: ignore[override]
        vectors = F.linear(F.embedding(tokens, self.weight), self.up)
        return vectors if self.scale is None else vectors * self.scale

    def unembed(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.up.T), self.weight)

    def cost(self, work: Work) -> Cost:
        """One narrow row is read per token, and widened."""
        d_model, rank = self.up.shape
        n = work.all_tokens * d_model
        return Cost(
            params=self.own_params(),
            weights_read={"native": work.all_tokens * rank + self.up.numel()},
            matmuls=(Matmul(work.all_tokens, rank, d_model),),
            ops={} if self.scale is None else {"mul": n},
            activations=n if self.scale is None else 3 * n,
        )

    def unembed_cost(self, work: Work) -> Cost:
        """Both factors are read once per call."""
        (d_model, rank), vocab_size = self.up.shape, len(self.weight)
        return Cost(
            weights_read={"native": self.up.numel() + self.weight.numel()},
            matmuls=(Matmul(work.rows, d_model, rank), Matmul(work.rows, rank, vocab_size)),
            activations=work.rows * (d_model + vocab_size),
        )
