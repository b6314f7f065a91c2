"""The parallel layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.layout.base import Layout, SubLayer
from minigpt.components.residual.base import Residual
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import options


@register("layout", "parallel")
class Parallel(Layout):
    """x = x + attention(norm_a(x)) + mlp(norm_m(x)): both read the same stream, side by side.

    Wang & Komatsuzaki 2021 (GPT-J); Black et al. 2022 (GPT-NeoX), arXiv:2204.06745, with a norm of its own for each.
    shared_norm: one norm for both, as in GPT-J and Phi (arXiv:2309.05463); its site is ``attention``.
    """

    norms_inputs = True

    side_by_side = True

    @options
    class Config:
        shared_norm: bool = False

    cases = [{"shared_norm": True}]

    def __init__(self, config: Config, ctx: BuildContext):
        self.shared_norm = config.shared_norm
        super().__init__(config, ctx)

    def build_sublayer(self, ctx: BuildContext, axis: SubLayer) -> None:
        if axis == "attention" or not self.shared_norm:
            super().build_sublayer(ctx, axis)
            return
        self.mlp = ctx.build("mlp")
        if self.attention.silent or self.mlp.silent:
            raise UserError("layout.shared_norm: attention and mlp share it, and one of them is identity. Set it false")
        self.mlp_norm, self.mlp_residual = None, ctx.build("residual", "mlp", site="mlp")
        if type(self.mlp_residual).read is not Residual.read:
            raise UserError(
                f"layout.shared_norm: residual={self.mlp_residual.name} lets each sub-layer read the stream in its own "
                f"way. Choose residual=add, or shared_norm=false"
            )

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        joined, shared = stream, None
        if not self.attention.silent:
            x = shared = self.attention_norm(self.attention_residual.read(stream))  # (B, T, d_model)
            joined = self.attention_residual.write(joined, self.dropout(self.attention(x, call, state)))
        if not self.mlp.silent:
            x = shared if self.mlp_norm is None else self.mlp_norm(self.mlp_residual.read(stream))
            joined = self.mlp_residual.write(joined, self.dropout(self.mlp(x, call)))
        return joined
