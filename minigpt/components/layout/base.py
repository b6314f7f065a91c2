"""The layout axis: one block, the wiring of attention, MLP, norms and residuals."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext, Part
from minigpt.components.call import Call
from minigpt.cost import Cost, Work
from minigpt.registry import declare

declare("layout", default="pre_norm", scope="block")


SubLayer = Literal["attention", "mlp"]


class Layout(Part):
    """Built as ``cls(config, ctx)``. Takes the stream of the block before and returns the next one's, see Residual.

    A layout builds what it wires, mostly by :meth:`build_sublayer`, and nothing else. final_norm: whether the model
    still needs a norm after its last block.
    """

    uses = frozenset({"attention", "mlp", "norm", "residual"})
    final_norm: ClassVar[bool] = True
    attention: Any
    attention_norm: Any
    attention_residual: Any
    mlp: Any
    mlp_norm: Any
    mlp_residual: Any

    def __init__(self, config: Any, ctx: BuildContext):
        super().__init__()
        self.build_sublayer(ctx, "attention")
        self.build_sublayer(ctx, "mlp")
        self.dropout = nn.Dropout(ctx.dropout)
        self.d_model = ctx.d_model

    def build_sublayer(self, ctx: BuildContext, axis: SubLayer) -> None:
        """Build ``attention`` or ``mlp`` with its norm and its residual; a silent one gets neither, they are None."""
        part = ctx.build(axis)
        setattr(self, axis, part)
        setattr(self, f"{axis}_norm", None if part.silent else ctx.norm(site=axis))
        setattr(self, f"{axis}_residual", None if part.silent else ctx.build("residual", axis, site=axis))

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        raise NotImplementedError

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> Any:
        return self.attention.new_state(batch, capacity, device, dtype)

    def cost(self, work: Work) -> Cost:
        """The sum of the parts: the wiring itself is free."""
        per_token = work.over(work.all_tokens, work.all_tokens * self.d_model)
        whole_call = ("attention", "mlp")
        return Cost(
            parts={
                name: part.cost(work if name in whole_call else per_token)
                for name, part in self.named_children()
                if isinstance(part, Part)
            }
        )
