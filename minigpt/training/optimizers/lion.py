"""Lion."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "lion")
class Lion(Optimizer):
    """p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), then m = beta2 m + (1 - beta2) g.

    Chen et al. 2023, arXiv:2302.06675. Half of AdamW's state; every element moves by lr, so lr is smaller and decay
    larger. cautious: elements whose update and gradient disagree stay, Liang et al. 2024, arXiv:2411.16085.
    """

    moves_by_rate = True

    @options
    class Config:
        lr: PositiveFloat = 1e-3
        beta1: Probability = 0.9
        beta2: Probability = 0.99
        weight_decay: NonNegativeFloat = 0.5
        cautious: bool = False

    cases = [{"lr": 0.01}, {"beta1": 0.5}, {"beta2": 0.5}, {"weight_decay": 5.0}, {"cautious": True}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        groups = decay_groups(parameters.items(), roles, config.weight_decay)
        betas = (config.beta1, config.beta2)
        part = packaged("Lion", groups, lr=config.lr, betas=betas, cautious=config.cautious)
        super().__init__([part], parameters)
