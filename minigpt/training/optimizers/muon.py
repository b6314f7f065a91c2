"""Muon."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from minigpt.components.base import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups


@register("optimizer", "muon")
class Muon(Optimizer):
    """Hidden matrices move along their momentum made orthogonal, by Newton-Schulz; everything else moves by AdamW.

    Jordan et al. 2024, kellerjordan.github.io/posts/muon; torch.optim.Muon. An update's spectral norm is
    about lr sqrt(max(1, rows / columns)) whatever the gradient's: lr is of hidden matrices alone, adamw_lr of the rest.
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

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        hidden = {n: p for n, p in parameters.items() if roles[n] in ("weight", "residual_out") and p.ndim == 2}
        rest = {n: p for n, p in parameters.items() if n not in hidden}
        parts: list[torch.optim.Optimizer] = []
        if hidden:
            parts.append(
                torch.optim.Muon(
                    hidden.values(),
                    lr=config.lr,
                    momentum=config.momentum,
                    ns_steps=config.steps,
                    weight_decay=config.weight_decay,
                )
            )
        groups = decay_groups(rest.items(), roles, config.weight_decay)
        betas = (config.beta1, config.beta2)
        parts.append(torch.optim.AdamW(groups, lr=config.adamw_lr, betas=betas, eps=config.eps, fused=True))
        super().__init__(parts, parameters)
