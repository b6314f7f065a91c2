"""Sophia."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged

_NEVER = 2**62  # steps between estimates of the package's own, which would need a graph of the gradients


@register("optimizer", "sophia")
class Sophia(Optimizer):
    """p -= lr (clip(m / max(gamma h, eps), 1) + weight_decay p), m a running mean of g, h of the loss' curvature.

    Liu et al. 2023, arXiv:2305.14342, Sophia-G: every interval steps, h takes in n g^2, g the gradient of the mean loss
    of n tokens that the model itself draws (Gauss-Newton-Bartlett). That is one more forward and backward pass over
    the step's first micro-batch, however many it has.
    """

    @options
    class Config:
        lr: PositiveFloat = 2e-3
        beta1: Probability = 0.96
        beta2: Probability = 0.99
        gamma: PositiveFloat = 0.05
        interval: PositiveInt = 10
        eps: PositiveFloat = 1e-12
        weight_decay: NonNegativeFloat = 0.1

    cases = [
        {"lr": 0.1},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"gamma": 0.01},
        {"interval": 2},
        {"eps": 1.0},
        {"weight_decay": 0.5},
    ]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        part = packaged(
            "SophiaH",
            decay_groups(parameters.items(), roles, config.weight_decay),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            p=1.0,
            update_period=_NEVER,
            eps=config.eps,
        )
        super().__init__([part], parameters)
        self.sophia: Any = part
        self.gamma, self.interval = config.gamma, config.interval
        self.order = {id(parameter): i for i, parameter in enumerate(parameters.values())}
        self.given: list[torch.Tensor] | None = None

    @property
    def curvature(self) -> bool:  # type: ignore[override]
        """At the first step and every interval steps that moved anything."""
        return int(self.groups[0].get("step", 0)) % self.interval == 0

    def curve(self, curvature: list[torch.Tensor]) -> None:
        """gamma goes in here: the running mean is linear, and the package's own clip stays at 1."""
        places = [self.order[id(p)] for group in self.groups for p in group["params"]]
        self.given = [curvature[place] * self.gamma for place in places]

    def step(self, scaler: torch.amp.GradScaler) -> None:
        super().step(scaler)
        self.given = None  # a step that the scaler left out asks anew

    def move(self) -> None:
        self.sophia.step(hessian=self.given)
