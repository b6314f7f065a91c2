"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, UserError, options
from minigpt.training.optimizers.base import Optimizer, decay_groups


@register("optimizer", "sgd")
class SGD(Optimizer):
    """m = momentum m + g + weight_decay p, then p -= lr m; with nesterov, p -= lr (g + weight_decay p + momentum m).

    Robbins & Monro 1951; Sutskever et al. 2013 for momentum. torch's. Transformers want far more steps of it than of
    an adaptive method.
    """

    @options
    class Config:
        lr: PositiveFloat = 0.15
        momentum: Probability = 0.9
        nesterov: bool = False
        weight_decay: NonNegativeFloat = 1e-4

        def __post_init__(self):
            if self.nesterov and not self.momentum:
                raise UserError("optimizer.nesterov: does nothing with momentum=0. Give a momentum, such as 0.9")

    cases = [{"lr": 0.01}, {"momentum": 0.5}, {"nesterov": True}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        groups = decay_groups(parameters.items(), roles, config.weight_decay)
        part = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
        super().__init__([part], parameters)
