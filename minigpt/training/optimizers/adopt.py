"""ADOPT."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "adopt")
class ADOPT(Optimizer):
    """m = beta1 m + (1 - beta1) clip(g / max(sqrt(v), eps)), then p -= lr (m + weight_decay p), then v takes in g.

    Taniguchi et al. 2024, arXiv:2411.02853: Adam whose v does not hold the gradient it divides, so that it converges
    for any beta2. The clip is at step^(1/4); the first step only starts v.
    """

    moves_by_rate = True

    @options
    class Config:
        lr: PositiveFloat = 2e-3
        beta1: Probability = 0.9
        beta2: Probability = 0.9999
        eps: PositiveFloat = 1e-6
        weight_decay: NonNegativeFloat = 0.1

    cases = [{"lr": 0.01}, {"beta1": 0.5}, {"beta2": 0.5}, {"eps": 0.1}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        groups = decay_groups(parameters.items(), roles, config.weight_decay)
        betas = (config.beta1, config.beta2)
        part = packaged("ADOPT", groups, lr=config.lr, betas=betas, eps=config.eps, weight_decouple=True)
        super().__init__([part], parameters)
