"""No MLP."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.mlp.base import FeedForward
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("mlp", "identity")
class IdentityMLP(FeedForward):
    """y = 0 with ``output: zero``, so that nothing joins the stream; y = x with ``output: input``,
    torch.nn.Identity.
    """

    @options
    class Config:
        output: Literal["zero", "input"] = "zero"

    cases = [{"output": "input"}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.silent = config.output == "zero"

    def forward(self, x: Tensor, call: Call) -> Tensor:
        return torch.zeros_like(x) if self.silent else x

    def cost(self, work: Work) -> Cost:
        return Cost()
