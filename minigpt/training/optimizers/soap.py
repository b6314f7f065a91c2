"""SOAP."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups, hidden_matrices
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "soap")
class SOAP(Optimizer):
    """p -= lr (Q_L u Q_R^T + weight_decay p) for hidden matrices, u Adam's step for Q_L^T G Q_R; the rest moves by
    AdamW.

    Q_L and Q_R are the eigenbases of the running means of G G^T and G^T G. Vyas et al. 2024, arXiv:2409.11321:
    Shampoo's directions at Adam's price. Bases are turned every frequency steps, by one QR each; sides longer than
    max_dim keep the plain basis. The first step only starts the bases. lr is of hidden matrices alone, adamw_lr of the
    rest; beta1, beta2 and eps are of both.
    """

    @options
    class Config:
        lr: PositiveFloat = 0.01
        beta1: Probability = 0.95
        beta2: Probability = 0.95
        frequency: PositiveInt = 10
        max_dim: PositiveInt = 10000
        eps: PositiveFloat = 1e-8
        weight_decay: NonNegativeFloat = 0.1
        adamw_lr: PositiveFloat = 4e-3

    cases = [
        {"lr": 0.1},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"frequency": 2},
        {"max_dim": 16},
        {"eps": 0.01},
        {"weight_decay": 0.5},
        {"adamw_lr": 0.02},
    ]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        hidden, rest = hidden_matrices("soap", parameters, roles)
        betas = (config.beta1, config.beta2)
        soap = packaged(
            "SOAP",
            [{"params": list(hidden.values()), "weight_decay": config.weight_decay}],
            lr=config.lr,
            betas=betas,
            precondition_frequency=config.frequency,
            max_precondition_dim=config.max_dim,
            eps=config.eps,
        )
        parts = [soap]
        if groups := decay_groups(rest.items(), roles, config.weight_decay):
            parts.append(torch.optim.AdamW(groups, lr=config.adamw_lr, betas=betas, eps=config.eps, fused=True))
        super().__init__(parts, parameters)
        self.max_dim = config.max_dim

    def kept(self, name: str, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [(side, side) for side in shape if side <= self.max_dim] if name in ("GG", "Q") else [shape]
