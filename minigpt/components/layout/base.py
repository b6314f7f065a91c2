"""The layout axis: one block, the wiring of attention, MLP, norms and residuals."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext, Part, Span
from minigpt.cost import Cost, Work


class Layout(Part):
    """Built as ``cls(config, ctx)``. x: (B, T, d_model) -> (B, T, d_model).

    Attention and MLP each have a norm and a residual; a layout decides where they sit. final_norm: whether the model
    still needs a norm after its last block.
    """

    uses = frozenset({"attention", "mlp", "norm", "residual"})
    final_norm: ClassVar[bool] = True

    def __init__(self, config: object, ctx: BuildContext):
        super().__init__()
        self.attention_norm = ctx.norm()
        self.attention = ctx.build("attention")
        self.attention_residual = ctx.build("residual")
        self.mlp = ctx.build("mlp")
        self.mlp_norm = None if self.mlp.silent else ctx.norm()
        self.mlp_residual = None if self.mlp.silent else ctx.build("residual")
        self.dropout = nn.Dropout(ctx.dropout)
        self.d_model = ctx.d_model

    def forward(self, x: Tensor, span: Span, state: Any = None) -> Tensor:
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
