"""MARS."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "mars")
class MARS(Optimizer):
    """AdamW on c = g + gamma beta1 / (1 - beta1) (g - g'), g' the last step's gradient, instead of g.

    Each parameter's c is cut to length 1. Yuan et al. 2024, arXiv:2411.10438: the form that takes the last gradient
    as it was, which needs no second backward pass; everything moves by it, vectors too.
    """

    moves_by_rate = True

    @options
    class Config:
        lr: PositiveFloat = 3e-3
        beta1: Probability = 0.95
        beta2: Probability = 0.99
        gamma: NonNegativeFloat = 0.025
        eps: PositiveFloat = 1e-8
        weight_decay: NonNegativeFloat = 0.1

    cases = [{"lr": 0.01}, {"beta1": 0.5}, {"beta2": 0.5}, {"gamma": 0.5}, {"eps": 0.01}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        part = packaged(
            "MARS",
            decay_groups(parameters.items(), roles, config.weight_decay),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            gamma=config.gamma,
            optimize_1d=True,
            eps=config.eps,
        )
        super().__init__([part], parameters)
