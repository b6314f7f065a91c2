"""The token table."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.embedding.base import EXAMPLE, StoredRows
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import FilePath, options


@register("embedding", "table")
class TokenTable(StoredRows):
    """x = E[token], one learned vector per token.  Learns weight E: (vocab_size, d_model), which a tied head multiplies
    with.

    scaled: vectors are multiplied by
    sqrt(d_model), so that a table drawn for a tied head is of unit size in the stream (Vaswani et al. 2017,
    arXiv:1706.03762; Gemma, arXiv:2403.08295). normalised: every row is divided by its length, in the tied head too
    (nGPT, arXiv:2410.01131). file: a table to start from, of shape (vocab_size, d_model), as ``.npy`` or
    ``.safetensors``; it is read when training starts, a checkpoint holds the values. frozen: the table is not trained.
    """

    @options
    class Config:
        scaled: bool = False
        normalised: bool = False
        file: FilePath | None = None
        frozen: bool = False

    cases = [{"scaled": True}, {"normalised": True}, {"file": EXAMPLE, "frozen": True}]
    changes = {"file": "start", "frozen": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext):
        self.build_table(ctx.vocab_size, ctx.d_model, config.file, config.frozen)
        self.scale = math.sqrt(ctx.d_model) if config.scaled else None
        self.normalised = config.normalised

    def forward(self, tokens: Tensor, call: Call, state: Any = None) -> Tensor:  # type: ignore[override]
        vectors = F.embedding(tokens, self.weight)
        if self.normalised:
            vectors = _of_length_one(vectors)
        return vectors if self.scale is None else vectors * self.scale

    def unembed(self, x: Tensor) -> Tensor:
        return F.linear(x, _of_length_one(self.weight) if self.normalised else self.weight)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch normalises rows whenever they are looked up; in hardware the table is stored so."""
        if not self.normalised:
            return {}
        n, rows = work.all_tokens * self.embedding_dim, work.all_tokens
        return {"mul": 2 * n, "add": n, "sqrt": rows, "cmp": rows}

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


def _of_length_one(rows: Tensor) -> Tensor:
    """(..., width), a row of zeros left as it is: the bound is one that 16 bits hold."""
    return F.normalize(rows, dim=-1, eps=1e-6)
