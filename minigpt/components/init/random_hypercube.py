"""An embedding table of random corners of a cube."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.init.tables import TableInit
from minigpt.registry import register
from minigpt.schema import Name, PositiveFloat, options


@register("init", "random_hypercube")
class RandomHypercubeInit(TableInit):
    """E_ij = std or -std, as likely: rows of the embedding table are random corners of a cube.

    No paper; in use in ReaLLM-Forge, a fork of nanoGPT. std: root mean square of an entry. rest: the policy of
    everything else.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02
        rest: Name = "gpt2"

    cases = [{"std": 0.1, "rest": "fan_in"}]
    changes = {"std": "start", "rest": "start"}

    def draw(self, values: Tensor, generator: torch.Generator) -> None:
        values.bernoulli_(0.5, generator=generator).mul_(2).sub_(1).mul_(self.config.std)
