"""An embedding table of normal numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.init.tables import TableInit
from minigpt.registry import register
from minigpt.schema import Name, PositiveFloat, options


@register("init", "gaussian")
class GaussianInit(TableInit):
    """E ~ N(0, std^2), all entries of the embedding table: std = 0.02 is GPT's, Radford et al. 2018.

    rest: the policy of everything else, which says nothing of the table.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02
        rest: Name = "gpt2"

    cases = [{"std": 0.1, "rest": "fan_in"}]
    changes = {"std": "start", "rest": "start"}

    def draw(self, values: Tensor, generator: torch.Generator) -> None:
        values.normal_(0.0, self.config.std, generator=generator)
