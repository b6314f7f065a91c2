"""Single steps of an optimizer, without the loop: what the loop owes an optimizer is done here too."""

from __future__ import annotations

import torch

from minigpt import registry
from minigpt.device import Precision
from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.training.curvature import gauss_newton
from minigpt.training.optimizers.base import Optimizer

CPU = Precision("fp32", torch.device("cpu"))
NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)
TOKENS = torch.arange(17).repeat(2, 1)


def build(name: str, model: GPT, **options) -> Optimizer:
    spec = registry.spec("optimizer", {"name": name, **options})
    return registry.build(spec, dict(model.named_parameters()), model.roles())


def small_model(**choices) -> GPT:
    return GPT.create(make_spec(**{"bias": True, "norm": "layernorm", "position": "learned"} | choices))


def a_step(model: GPT, optimizer: Optimizer, tokens: torch.Tensor = TOKENS) -> float:
    """Train on one batch once; returns the loss before."""
    if optimizer.curvature:
        optimizer.curve(gauss_newton(model, tokens[:, :-1], list(model.parameters()), CPU, NO_SCALER))
    logits = model(tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    optimizer.step(NO_SCALER)
    optimizer.zero_grad()
    return loss.item()
