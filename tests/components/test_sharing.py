"""Layers that share parameters compute what layers with equal ones do, and their gradients add up."""

from __future__ import annotations

import re

import pytest
import torch

from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.testing.models import batch, loss_of, moved

OWNERS = {"run": [0, 0, 2, 2], "cycle": [0, 1, 0, 1], "mirror": [0, 1, 1, 0]}
"""AABB, ABAB and ABBA: layer -> the layer whose part it has."""


@pytest.mark.parametrize("part", ["attention", "mlp", "block"])
@pytest.mark.parametrize("order", OWNERS)
def test_a_shared_part_is_the_same_part_in_every_place(order, part):
    share = {part: order} if order == "mirror" else {part: order, "distinct": 2}
    shared = moved(GPT.create(make_spec(n_layer=4, share=share))).double()
    apart = GPT.create(make_spec(n_layer=4)).double()

    def owned_as(name: str) -> str:
        """The name that a parameter of the model without sharing has in the other."""
        found = re.match(r"blocks\.(\d)\.(.*)", name)
        if found is None or (part != "block" and not found[2].startswith(f"{part}.")):
            return name
        return f"blocks.{OWNERS[order][int(found[1])]}.{found[2]}"

    ours = dict(shared.named_parameters())
    apart.load_state_dict({name: ours[owned_as(name)] for name in dict(apart.named_parameters())})
    losses = [loss_of(model, batch()) for model in (shared, apart)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    added = {name: torch.zeros_like(p) for name, p in ours.items()}
    for name, parameter in apart.named_parameters():
        added[owned_as(name)] += parameter.grad
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, added[name], msg=name)
    assert len(ours) < len(dict(apart.named_parameters()))
