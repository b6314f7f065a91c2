"""An embedding table on a sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.init.tables import TableInit, directions
from minigpt.registry import register
from minigpt.schema import Name, PositiveFloat, options


@register("init", "hypersphere")
class HypersphereInit(TableInit):
    """E_i = std sqrt(d_model) u / |u|, u ~ N(0, 1): every row of the embedding table has one length, in a direction
    drawn evenly.  Muller 1959 for the drawing.

    No paper of it as a table; in use in ReaLLM-Forge, a fork of nanoGPT. std: root mean square of an entry. rest: the
    policy of everything else.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02
        rest: Name = "gpt2"

    cases = [{"std": 0.1, "rest": "fan_in"}]
    changes = {"std": "start", "rest": "start"}

    def draw(self, values: Tensor, generator: torch.Generator) -> None:
        values.copy_(directions(values, generator) * self.config.std * values.shape[-1] ** 0.5)
