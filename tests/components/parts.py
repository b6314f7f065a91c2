"""Single components with random parameters, for comparing them with what they should compute."""

from __future__ import annotations

import torch

from minigpt import registry
from minigpt.components.call import Call, Span
from minigpt.testing import make_spec

DEVICE = torch.device("cpu")


USUAL = {
    "norm": lambda _: (32,),
    "activation": lambda _: (32,),
    "residual": lambda _: ("mlp",),
    "position": lambda name: (registry.get("position", name).places, 8),
}
"""What a component of an axis is built with when a test does not say."""


def call(start: int = 0, length: int = 16) -> Call:
    return Call(Span(start, length, DEVICE))


def part(axis: str, name: str, *args, **options):
    """One component of a 4-head, 32-channel layer, with random parameters."""
    spec = make_spec(**{axis: {"name": name} | options})
    context = spec.context(0)
    built = context.build(axis, *(args or USUAL.get(axis, lambda _: ())(name)))
    for module in built.modules():
        if hasattr(module, "init_buffers"):
            module.init_buffers()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return built


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def above_diagonal(n: int) -> torch.Tensor:
    return torch.ones(n, n, dtype=torch.bool).triu(1)
