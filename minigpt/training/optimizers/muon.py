"""Muon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from minigpt.components.initialiser import Role
from minigpt.device import multiplies_bf16
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups, hidden_matrices


@register("optimizer", "muon")
class Muon(Optimizer):
    """p -= lr (sqrt(max(1, rows / columns)) O(m) + weight_decay p) for hidden matrices, O(m) their momentum m made
    orthogonal by ``steps`` of Newton-Schulz; everything else moves by AdamW.

    Jordan et al. 2024, kellerjordan.github.io/posts/muon; torch.optim.Muon. An update's spectral norm is about lr
    sqrt(max(1, rows / columns)) whatever the gradient's: lr is of hidden matrices alone, adamw_lr of the rest.
    """

    @options
    class Config:
        lr: PositiveFloat = 0.02
        momentum: Probability = 0.95
        steps: PositiveInt = 5  # of Newton-Schulz
        weight_decay: NonNegativeFloat = 0.1
        adamw_lr: PositiveFloat = 2e-3
        beta1: Probability = 0.9
        beta2: Probability = 0.95
        eps: PositiveFloat = 1e-8

    cases = [
        {"lr": 0.1},
        {"momentum": 0.5},
        {"steps": 2},
        {"weight_decay": 0.5},
        {"adamw_lr": 0.01},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"eps": 0.01},
    ]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        hidden, rest = hidden_matrices("muon", parameters, roles)
        kind = torch.optim.Muon if multiplies_bf16(next(iter(hidden.values())).device) else MuonInFp32
        muon = kind(
            hidden.values(),
            lr=config.lr,
            momentum=config.momentum,
            ns_steps=config.steps,
            weight_decay=config.weight_decay,
        )
        parts: list[torch.optim.Optimizer] = [muon]
        if groups := decay_groups(rest.items(), roles, config.weight_decay):
            betas = (config.beta1, config.beta2)
            parts.append(torch.optim.AdamW(groups, lr=config.adamw_lr, betas=betas, eps=config.eps, fused=True))
        super().__init__(parts, parameters)


class MuonInFp32(torch.optim.Muon):
    """torch's Muon with its products in fp32: bf16 ones are several times slower on a CPU without units for them."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                momentum = state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(momentum, group["momentum"]), group)
                rows, columns = weight.shape
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))


def orthogonal(update: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
    """The same matrix with every singular value near one, by Newton-Schulz in its own format; with fewer rows than
    columns, which the products are cheaper for."""
    a, b, c = group["ns_coefficients"]
    x = update.T if update.shape[0] > update.shape[1] else update
    x = x / x.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if update.shape[0] > update.shape[1] else x
