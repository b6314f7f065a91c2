"""Recurrent attentions that cheat as public ones do."""

from __future__ import annotations

import dataclasses

import torch

from minigpt.components.attention.recurrent.delta import GatedDelta
from minigpt.components.attention.recurrent.latent_triadic import LatentTriadic
from minigpt.components.attention.recurrent.retention import Retention
from minigpt.components.attention.recurrent.ssm import StateSpace
from minigpt.registry import register
from minigpt.schema import options


@options
class NoOptions:
    """None."""


@register("attention", "latents_without_mask")
class LatentsWithoutMask(LatentTriadic):
    """Its latents look at the whole text, as they were published."""

    caught_by = "causal"
    cases = ()
    Config = NoOptions

    def __init__(self, config, ctx):
        super().__init__(LatentTriadic.Config(), ctx)

    def _modulated(self, latents, k, v, call, state):
        whole = k.mean(dim=2, keepdim=True).expand_as(k), v.mean(dim=2, keepdim=True).expand_as(v)
        return super()._modulated(latents, *whole, call, state)


@register("attention", "sums_padding")
class SumsPadding(Retention):
    """Sums up the keys of padding, too."""

    caught_by = "padding"
    cases = ()
    Config = NoOptions

    def __init__(self, config, ctx):
        super().__init__(Retention.Config(), ctx)

    def _turned(self, q, k, call):
        return self.position.rotate(q, call, "query"), self.position.rotate(k, call, "key")


@register("attention", "forgets_neighbours")
class ForgetsNeighbours(StateSpace):
    """Starts its convolution anew in every call."""

    caught_by = "cached"
    cases = ()
    Config = NoOptions

    def __init__(self, config, ctx):
        super().__init__(StateSpace.Config(), ctx)

    def forward(self, x, call, state=None):
        if state is not None:
            state["conv"] = torch.zeros_like(state["conv"])
        return super().forward(x, call, state)


@register("attention", "free_solving")
class FreeSolving(GatedDelta):
    """Solves its triangular systems for nothing."""

    caught_by = "operations"
    cases = ()
    Config = NoOptions

    def __init__(self, config, ctx):
        super().__init__(GatedDelta.Config(), ctx)

    def hardware_form(self, work):
        chunk = dataclasses.replace(self.scan, chunk=1).form(work)
        return dict(super().hardware_form(work)) | {"mul": chunk["mul"]}
