"""Adan."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "adan")
class Adan(Optimizer):
    """p = (p - lr (m + beta2 d) / (sqrt(n) + eps)) / (1 + lr weight_decay): Nesterov's momentum made adaptive.

    m, d and n are running means of the gradient g (beta1), of its change since the last step g - g' (beta2), and of
    (g + beta2 (g - g'))^2 (beta3), each corrected for starting at zero. Xie et al. 2022, arXiv:2208.06677.
    """

    moves_by_rate = True

    @options
    class Config:
        lr: PositiveFloat = 4e-3
        beta1: Probability = 0.98
        beta2: Probability = 0.92
        beta3: Probability = 0.99
        eps: PositiveFloat = 1e-8
        weight_decay: NonNegativeFloat = 0.02

    cases = [{"lr": 0.01}, {"beta1": 0.5}, {"beta2": 0.5}, {"beta3": 0.5}, {"eps": 0.01}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        groups = decay_groups(parameters.items(), roles, config.weight_decay)
        betas = (config.beta1, config.beta2, config.beta3)
        super().__init__([packaged("Adan", groups, lr=config.lr, betas=betas, eps=config.eps)], parameters)
