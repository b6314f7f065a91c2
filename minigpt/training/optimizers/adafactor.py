"""Adafactor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Range, options
from minigpt.training.optimizers.base import Optimizer, decay_groups


@register("optimizer", "adafactor")
class Adafactor(Optimizer):
    """p -= a u / max(1, RMS(u) / clip), u = g / sqrt(v), a = max(1e-3, RMS(p)) min(lr, 1 / sqrt(step)).

    v, the running mean of the squared gradient with 1 - step^beta2_decay, is of a matrix one row times one column: next
    to no state. Shazeer & Stern 2018, arXiv:1804.04235; torch's. p shrinks by lr weight_decay p as in AdamW.
    lr: relative to the size of what moves.
    """

    @options
    class Config:
        lr: PositiveFloat = 0.1
        beta2_decay: Annotated[float, Range(ge=-1, lt=0)] = -0.8
        clip: Annotated[float, Range(ge=1)] = 1.0
        weight_decay: NonNegativeFloat = 0.01

    cases = [{"lr": 0.5}, {"beta2_decay": -0.5}, {"clip": 4.0}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        groups = decay_groups(parameters.items(), roles, config.weight_decay)
        part = torch.optim.Adafactor(
            groups,
            lr=config.lr,
            beta2_decay=config.beta2_decay,
            eps=(1e-15, 1e-3),  # below sqrt(v), 1e-30 below v as in the paper; least size of p
            d=config.clip,
        )
        super().__init__([part], parameters)

    def kept(self, name: str, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        factors = {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, *shape[-1:])}
        return [factors.get(name, shape)]
