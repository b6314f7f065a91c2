"""An embedding table of normal numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.init.tables import TableInit
from minigpt.registry import register
from minigpt.schema import Name, PositiveFloat, options


@register("init", "gaussian")
class GaussianInit(TableInit):
    """The embedding table is normal with standard deviation ``std``, whatever the policy ``rest`` says of it.

    rest: the policy of everything else.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02
        rest: Name = "gpt2"

    cases = [{"std": 0.1, "rest": "fan_in"}]
    changes = {"std": "start", "rest": "start"}

    def draw(self, values: Tensor, generator: torch.Generator) -> None:
        values.normal_(0.0, self.config.std, generator=generator)
