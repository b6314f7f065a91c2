"""Sigmoid attention weights."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.softmax.elementwise import Elementwise, chosen_divisor
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("softmax", "sigmoidmax")
class SigmoidMax(Elementwise):
    """y = sigmoid(s + bias) / divisor.  Wortsman et al. 2023, arXiv:2309.08586; Ramapuram et al. 2024,
    arXiv:2409.04431, who take bias = -log(keys) and no divisor.

    bias: a constant, or, with ``learned``, where the one number starts that it learns: (1,). divisor: None is 256, or 1
    with ``length_scale``, which divides each row by the number of keys it may see.
    """

    operations = {"exp": 1, "add": 1, "recip": 1}
    beside = {"sigmoid": 1, "exp": -1, "add": -1, "recip": -1}  # torch has the sigmoid as one operation

    @options
    class Config:
        bias: Annotated[float, Range(ge=-1e4, le=1e4)] = 0.0
        learned: bool = False
        divisor: PositiveFloat | None = None
        length_scale: bool = False

    cases = [{"bias": -1.0, "divisor": 16.0}, {"learned": True}, {"length_scale": True}]
    changes = {"learned": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(chosen_divisor(config.divisor, config.length_scale, 256.0), config.length_scale)
        self.start = config.bias
        self.bias = nn.Parameter(torch.empty(1)) if config.learned else config.bias
        if self.bias is not None and (config.learned or config.bias):
            self.operations = self.operations | {"add": 2}

    def init_parameters(self, init: Initialiser) -> None:
        if isinstance(self.bias, nn.Parameter):
            init.constant(self.bias, self.start, "scalar")

    def function(self, scores: Tensor) -> Tensor:
        biased = isinstance(self.bias, nn.Parameter) or self.bias
        return torch.sigmoid(scores + self.bias if biased else scores)
