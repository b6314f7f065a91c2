"""Attentions mix their values with those of the first layer."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.components.residual.base import Place, Residual, mixes_values
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Range, options

_PREFIX = "first_values"


@register("residual", "value_residual")
class ValueResidual(Residual):
    """x' = x + y, and inside each attention v' = (1 - a) v + a v_1, v_1 the values of the first.  Zhou et al. 2024
    (ResFormer), arXiv:2410.17897.

    ``sites.residual.values=value_residual`` puts it beside another residual. Values are mixed before they are cached: a
    cache is as large as without. All attentions need values of one shape, (B, n_kv_head, T, head_dim). Learns a: (1,)
    in every attention but the first, which starts at ``share_init``; with learned=false it stays there.
    """

    mixes_values = True

    @options
    class Config:
        share_init: Annotated[float, Range(gt=0, lt=1)] = 0.5
        learned: bool = True

    cases = [{"share_init": 0.25}, {"learned": False, "with": {"attention": {"name": "causal", "n_kv_head": 2}}}]
    changes = {"learned": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext, place: Place, shape: tuple[int, int] = (0, 0)):
        super().__init__(config, ctx, place)
        self.share_init = config.share_init
        self.share: nn.Parameter | None = None
        if place in ("attention", "mlp") and not mixes_values(ctx.block):
            raise UserError(
                f"sites.residual.{place}: value_residual acts on values, and here does what add does. "
                f"Choose sites.residual.values=value_residual, or residual=value_residual"
            )
        if place == "values":
            self._stand_in_line(config, ctx, shape)

    def _stand_in_line(self, config: Config, ctx: BuildContext, shape: tuple[int, int]) -> None:
        """The first attention provides its values, those after it need them."""
        self.key = f"{_PREFIX} of {shape[0]} heads of {shape[1]}"
        there = [name for name in ctx.provided if name.startswith(_PREFIX)]
        if not there:
            self.provides = frozenset({self.key})
        elif self.key in there:
            self.needs = frozenset({self.key})
            self.share = nn.Parameter(torch.empty(1)) if config.learned else None
        else:
            raise UserError(
                f"residual=value_residual: layer {ctx.layer_index} would mix its values, {shape[0]} heads of "
                f"{shape[1]}, with {there[0].replace('_', ' ')}. Give all attentions one n_kv_head, or choose "
                f"residual=add"
            )

    def init_parameters(self, init: Initialiser) -> None:
        if self.share is not None:
            init.constant(self.share, self.share_init, "scalar")

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        return stream + update

    def mix(self, v: Tensor, call: Call) -> Tensor:
        """v: (B, n_kv_head, T, head_dim) of this call's tokens -> the same shape."""
        if self.provides:
            call.provide(self.key, v)
            return v
        share = self.share_init if self.share is None else self.share.to(v.dtype)
        return torch.lerp(v, call.need(self.key).to(v.dtype), share)

    def join_cost(self, work: Work) -> Cost:
        return Cost(ops={"add": work.elements}, activations=3 * work.elements, passes=1)

    def cost(self, work: Work) -> Cost:
        """Of adding; at the place ``values`` of a mix, ``work.elements`` then being those of the values."""
        if self.place != "values":
            return super().cost(work)
        if self.provides:
            return Cost()
        n, params = work.elements, self.own_params()
        ops = {"sub": n, "mul": n, "add": n}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=3 * n, passes=1)
