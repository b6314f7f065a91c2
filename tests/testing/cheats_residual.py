"""Residuals and layouts that cheat."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from minigpt.components.layout.pre_norm import PreNorm
from minigpt.components.residual.add import Add
from minigpt.components.residual.depth_attention import DepthAttention
from minigpt.components.residual.slerp import Slerp
from minigpt.registry import register
from minigpt.schema import options


@register("residual", "unused_scale")
class UnusedScale(Add):
    """Owns the parameter of a mode that was not chosen."""

    caught_by = "gradients"

    def __init__(self, config, ctx, place):
        super().__init__(config, ctx, place)
        self.scale = nn.Parameter(torch.empty(ctx.d_model))

    def init_parameters(self, init):
        init.constant(self.scale, 1.0, "gain")

    def join_cost(self, work):
        return dataclasses.replace(super().join_cost(work), params=self.own_params())


@register("residual", "needless_query")
class NeedlessQuery(DepthAttention):
    """The first reader chooses among one."""

    caught_by = "gradients"

    def follow(self, earlier):
        self.earlier = earlier


@register("residual", "depth_over_time")
class DepthOverTime(DepthAttention):
    """Its softmax runs over the tokens, not the depth."""

    caught_by = "causal"

    def read(self, stream):
        if self.query is None:
            return stream[..., 0, :]
        weights = (stream @ self.query[:, None]).softmax(dim=1)
        return (weights * stream).sum(dim=-2)


@register("residual", "sphere_of_the_text")
class SphereOfTheText(Slerp):
    """Turns by the mean angle of all tokens."""

    caught_by = "causal"

    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx, place):
        super().__init__(Slerp.Config(), ctx, place)

    def write(self, stream, update):
        return super().write(stream, update - 0.1 * update.mean(dim=1, keepdim=True))


@register("layout", "forgotten_mlp")
class ForgottenMLP(PreNorm):
    """Builds an MLP and leaves it out."""

    caught_by = "gradients"

    def forward(self, stream, call, state=None):
        x = self.attention_norm(self.attention_residual.read(stream))
        return self.attention_residual.write(stream, self.dropout(self.attention(x, call, state)))
