"""An embedding table of one channel per token."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.init.tables import TableInit
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Name, PositiveFloat, options


@register("init", "one_hot")
class OneHotInit(TableInit):
    """E_ij = std sqrt(d_model) where i = j, else 0: every token has a channel of the embedding table for itself.

    Needs a width of at least vocab_size. No paper; in use in ReaLLM-Forge, a fork of nanoGPT. std: root mean square of
    an entry. rest: the policy of everything else.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02
        rest: Name = "gpt2"

    cases = [{"with": {"d_model": 64}}, {"std": 0.1, "rest": "fan_in", "with": {"d_model": 64}}]
    changes = {"std": "start", "rest": "start"}

    def refuse(self, rows: int, width: int) -> None:
        if rows > width:
            raise UserError(
                f"init=one_hot: {rows} tokens need a channel each, the table is {width} wide. Take a larger "
                f"model.d_model, or init=hypercube"
            )

    def draw(self, values: Tensor, generator: torch.Generator) -> None:
        values.zero_().fill_diagonal_(1.0).mul_(self.config.std * values.shape[-1] ** 0.5)
