"""Norms that cheat: scales that another token has a part in, and dimensions drawn where no checkpoint keeps them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from minigpt.components.norm.groupnorm import GroupNorm
from minigpt.components.norm.krmsnorm import KRMSNorm
from minigpt.registry import register
from minigpt.schema import options


class FewDimensions(KRMSNorm):
    """KRMSNorm without options, rounded to 8 bits."""

    cases = ()
    changes = {}

    @options
    class Config:
        pass

    def __init__(self, config, ctx, width):
        super().__init__(KRMSNorm.Config(quantize="int8"), ctx, width)


@register("norm", "one_scale_for_all_tokens")
class OneScaleForAllTokens(FewDimensions):
    """Rounds with the largest of the whole tensor, the future included."""

    caught_by = "causal"

    def row_scale(self, x):
        few = x[..., : self.k]
        step = (few.abs().amax() / self.largest).clamp_min(1e-30)
        few = few + (step * (few / step).round() - few).detach()
        return torch.rsqrt(few.square().mean(dim=-1, keepdim=True) + self.eps)


@register("norm", "drawn_each_time")
class DrawnEachTime(FewDimensions):
    """Takes other dimensions in each forward."""

    caught_by = "randomness"

    def row_scale(self, x):
        few = x[..., torch.randperm(x.shape[-1])[: self.k]]
        return torch.rsqrt(few.square().mean(dim=-1, keepdim=True) + self.eps)


@register("norm", "drawn_when_built")
class DrawnWhenBuilt(FewDimensions):
    """Takes dimensions that no seed and no checkpoint knows."""

    caught_by = "state_dict"

    def __init__(self, config, ctx, width):
        super().__init__(config, ctx, width)
        self.register_buffer("drawn", torch.empty(self.k, dtype=torch.int64), persistent=False)

    def init_buffers(self):
        self.drawn.copy_(torch.randperm(self.width)[: self.k])

    def row_scale(self, x):
        return torch.rsqrt(x[..., self.drawn].square().mean(dim=-1, keepdim=True) + self.eps)


@register("norm", "groups_over_time")
class GroupsOverTime(GroupNorm):
    """PyTorch's group norm on (B, C, T): its statistics go over all tokens."""

    caught_by = "causal"
    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx, width):
        super().__init__(GroupNorm.Config(), ctx, width)

    def forward(self, x):
        return F.group_norm(x.transpose(1, 2), self.groups, self.gain, self.bias, self.eps).transpose(1, 2)
