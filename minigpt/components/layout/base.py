"""The layout axis: one block, the wiring of attention, MLP, norms and residuals."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext, Part
from minigpt.components.call import Call
from minigpt.components.residual.base import Residual, mixes_values
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import declare

declare("layout", default="pre_norm", scope="block")


SubLayer = Literal["attention", "mlp"]


class Layout(Part):
    """Built as ``cls(config, ctx)``. Takes the stream of the block before and returns the next one's, see Residual.

    A layout builds what it wires, mostly by :meth:`build_sublayer`, and nothing else. sublayers: what it wires, in this
    order. final_norm: whether the model still needs a norm after its last block. norms_stream: whether it normalises
    the stream itself, which must be one then. norms_inputs: whether ``attention_norm`` and ``mlp_norm`` hand their
    output to their sub-layers and to nothing else. side_by_side: whether all sub-layers read the stream as it came in.
    """

    uses = frozenset({"attention", "mlp", "norm", "residual"})
    sublayers: ClassVar[tuple[SubLayer, ...]] = ("attention", "mlp")
    final_norm: ClassVar[bool] = True
    norms_stream: ClassVar[bool] = False
    norms_inputs: ClassVar[bool] = False
    side_by_side: ClassVar[bool] = False
    attention: Any
    attention_norm: Any
    attention_residual: Any
    mlp: Any
    mlp_norm: Any
    mlp_residual: Any

    def __init__(self, config: Any, ctx: BuildContext):
        super().__init__()
        for axis in self.sublayers:
            self.build_sublayer(ctx, axis)
        self.dropout = nn.Dropout(ctx.dropout)
        self.d_model = ctx.d_model
        self._refuse_what_does_not_join(ctx)

    def build_sublayer(self, ctx: BuildContext, axis: SubLayer) -> None:
        """Build ``attention`` or ``mlp`` with its norm and its residual; a silent one gets neither, they are None."""
        part = ctx.build(axis)
        setattr(self, axis, part)
        setattr(self, f"{axis}_norm", None if part.silent else ctx.norm(site=axis))
        setattr(self, f"{axis}_residual", None if part.silent else ctx.build("residual", axis, site=axis))

    def follow(self, earlier: int) -> int:
        """Tell each residual how many sub-layers have written to the stream it reads; returns how many have after the
        last."""
        written = earlier
        for residual in (part for part in self.children() if isinstance(part, Residual)):
            residual.follow(earlier if self.side_by_side else written)
            written += 1
        return written

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

    def _refuse_what_does_not_join(self, ctx: BuildContext) -> None:
        for residual in (part for part in self.children() if isinstance(part, Residual)):
            if self.norms_stream and residual.stream != Residual.stream:
                raise UserError(
                    f"layout={self.name} normalises the stream, and residual={residual.name} works on "
                    f"{residual.stream}. Choose residual=add, or layout=pre_norm"
                )
        attention = getattr(self, "attention", None)
        if mixes_values(ctx.block) and not getattr(attention, "mixes_values", False):
            what = f"layout={self.name}" if attention is None else f"attention={attention.name}"
            raise UserError(
                f"residual=value_residual mixes the values of attentions, and {what} hands none over. "
                f"Choose attention=causal, or residual=add"
            )
