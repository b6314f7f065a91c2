"""The residual axis: the stream that sub-layers read from and write to."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from minigpt import registry
from minigpt.blocks import BlockSpec
from minigpt.components.base import BuildContext, Part
from minigpt.cost import Cost, Work
from minigpt.registry import declare

declare("residual", default="add", scope="block")


Place = Literal["attention", "mlp", "model", "values"]
"""Where a residual stands: at a sub-layer, which reads and writes; around all blocks, which opens and closes; or inside
an attention, at its values."""


class Residual(Part):
    """Built as ``cls(config, ctx, place)``; a variant owns only the parameters its place uses.

    The stream is a tensor whose last dimension is d_model: (B, T, d_model), or (B, T, n, d_model) with several streams.
    stream: its form in words; all blocks of a model must agree on it, an instance may say more than its class.
    mixes_values: whether it joins the values of attentions, too.
    """

    stream: str = "one stream"
    mixes_values: ClassVar[bool] = False

    def __init__(self, config: Any, ctx: BuildContext, place: Place):
        super().__init__()
        self.place = place

    def follow(self, earlier: int) -> None:
        """Told once the model is built: so many sub-layers have written to the stream before this one reads it."""

    def open(self, x: Tensor) -> Tensor:
        """x: (B, T, d_model), the embedded tokens -> the stream."""
        return x

    def read(self, stream: Tensor) -> Tensor:
        """What a sub-layer works on: (B, T, d_model)."""
        return stream

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        """update: (B, T, d_model), a sub-layer's output -> the stream with it."""
        raise NotImplementedError

    def close(self, stream: Tensor) -> Tensor:
        """The stream -> (B, T, d_model), what the head works on."""
        return stream

    def cost(self, work: Work) -> Cost:
        """Of a read and a write at a sub-layer; of opening and closing around the blocks."""
        return Cost() if self.place == "model" else self.join_cost(work)

    def join_cost(self, work: Work) -> Cost:
        """Of a read and a write. ``work.elements``: of one (B, T, d_model)."""
        raise NotImplementedError


def mixes_values(block: BlockSpec) -> bool:
    """Whether the attention of a block is to join its values with those of another layer."""
    return registry.get("residual", block.spec("residual", "values").name).mixes_values
