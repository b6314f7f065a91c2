"""Schedule-free AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import nn

from minigpt.components.initialiser import Role
from minigpt.errors import shown
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, Range, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "schedule_free")
class ScheduleFree(Optimizer):
    """z -= lr g / (sqrt(v) + eps), x = (1 - c) x + c z, and gradients are taken at y = (1 - beta1) z + beta1 x.

    Defazio et al. 2024, arXiv:2405.15682. c weighs steps by the square of the highest rate so far, so x is a mean of
    the z of all steps after warm-up. y is trained; x is validated, saved as the model and used. Meant for
    schedule=constant: a rate that falls does the averaging's work once more.
    """

    @options
    class Config:
        lr: PositiveFloat = 5e-3
        beta1: Annotated[float, Range(gt=0, lt=1)] = 0.9
        beta2: Probability = 0.95
        eps: PositiveFloat = 1e-8
        weight_decay: NonNegativeFloat = 0.1

    cases = [{"lr": 0.1}, {"beta1": 0.5}, {"beta2": 0.5}, {"eps": 0.01}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        groups = decay_groups(parameters.items(), roles, config.weight_decay)
        betas = (config.beta1, config.beta2)
        self.free: Any = packaged("ScheduleFreeAdamW", groups, lr=config.lr, betas=betas, eps=config.eps)
        super().__init__([self.free], parameters)
        self.weights: list[torch.Tensor] = list(parameters.values())
        self.trained: list[torch.Tensor] = []  # y, while the weights are x: computed back, it would be another by a bit

    @torch.no_grad()
    def train(self) -> None:
        self.free.train()
        if self.trained:
            torch._foreach_copy_(self.weights, self.trained)
            self.trained = []

    @torch.no_grad()
    def eval(self) -> None:
        if not self.trained:
            self.trained = [weight.detach().clone() for weight in self.weights]
            self.free.eval()

    def state_dict(self) -> list[dict[str, Any]]:
        return [*super().state_dict(), {"trained": list(self.trained)}]

    def mismatch(self, state: Any) -> str:
        trained = state[-1]["trained"]
        shapes = [tuple(each.shape) for each in trained]
        if trained and shapes != [tuple(weight.shape) for weight in self.weights]:
            return f"the weights it trains have shapes {shown(shapes, 60)}, here others"
        return super().mismatch(state[:-1])

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        super().load_state_dict(state[:-1])
        device = self.weights[0].device
        self.trained = [each.to(device) for each in state[-1]["trained"]]
