"""AdamW."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups


@register("optimizer", "adamw")
class AdamW(Optimizer):
    """p -= lr (m / (sqrt(v) + eps) + weight_decay p), m and v running means of the gradient and its square.

    Loshchilov & Hutter 2017, arXiv:1711.05101. torch's fused kernel. Only matrices and tables decay.
    """

    moves_by_rate = True

    @options
    class Config:
        lr: PositiveFloat = 2e-3
        beta1: Probability = 0.9
        beta2: Probability = 0.95
        eps: PositiveFloat = 1e-8
        weight_decay: NonNegativeFloat = 0.1

    cases = [{"lr": 0.01}, {"beta1": 0.5}, {"beta2": 0.5}, {"eps": 0.01}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        groups = decay_groups(parameters.items(), roles, config.weight_decay)
        betas = (config.beta1, config.beta2)
        part = torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)
        super().__init__([part], parameters)
