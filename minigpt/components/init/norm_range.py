"""An embedding table between two spheres."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.init.tables import TableInit, directions
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Name, NonNegativeFloat, PositiveFloat, options


@register("init", "norm_range")
class NormRangeInit(TableInit):
    """E_i = r std sqrt(d_model) u / |u|, u ~ N(0, 1), r drawn evenly from ``shortest`` to ``longest``: rows of the
    embedding table differ in length.

    No paper; in use in ReaLLM-Forge, a fork of nanoGPT. std: root mean square of an entry where r is 1. rest: the
    policy of everything else.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02
        shortest: NonNegativeFloat = 0.5
        longest: PositiveFloat = 1.5
        rest: Name = "gpt2"

    cases = [{"std": 0.1, "rest": "fan_in"}, {"shortest": 0.1, "longest": 3.0}]
    changes = {"std": "start", "shortest": "start", "longest": "start", "rest": "start"}

    def __init__(self, config: Config):
        super().__init__(config)
        if config.shortest >= config.longest:
            raise UserError(
                f"init.shortest: {config.shortest} is no less than init.longest={config.longest}. "
                f"Take less, or init=hypersphere for rows of one length"
            )

    def draw(self, values: Tensor, generator: torch.Generator) -> None:
        ways = directions(values, generator)
        lengths = torch.rand(len(values), 1, generator=generator)
        lengths = self.config.shortest + (self.config.longest - self.config.shortest) * lengths
        values.copy_(ways * lengths * self.config.std * values.shape[-1] ** 0.5)
