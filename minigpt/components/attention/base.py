"""The attention axis: the sub-layer that mixes tokens, and the state it keeps while decoding."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from minigpt import registry
from minigpt.components.base import BuildContext, Part, Span
from minigpt.errors import UserError


class LayerState(Protocol):
    """What one layer remembers between calls of a cached decode."""

    @property
    def bits(self) -> int:
        """Memory it takes, whole batch; a test holds :attr:`Cost.state_bits` to it."""
        ...


class Attention(Part):
    """Built as ``cls(config, ctx)``. x: (B, T, d_model) -> (B, T, d_model); token t sees tokens up to t, itself
    included.

    positions: the kinds of position encoding this attention honours (see Position.kind).
    """

    positions: ClassVar[frozenset[str]] = frozenset()

    def forward(self, x: Tensor, span: Span, state: Any = None) -> Tensor:
        raise NotImplementedError

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> Any:
        """An empty state for up to ``capacity`` tokens per row; None when nothing is remembered."""
        return None

    def build_position(self, ctx: BuildContext) -> Any:
        """The block's position encoding if it acts inside attention, else None; refuses a kind this attention
        ignores."""
        chosen = ctx.block.position
        kind = registry.get("position", chosen.name).kind
        if kind in ("embedding", "none"):
            return None
        if kind not in self.positions:
            fitting = [n for n in registry.names("position") if _kind(n) in self.positions | {"embedding", "none"}]
            raise UserError(
                f"attention={self.name} does not support position={chosen.name} (kind: {kind}). "
                f"Choose position={'|'.join(fitting)}, or attention=causal"
            )
        return ctx.build("position")


def _kind(position: str) -> str:
    return registry.get("position", position).kind
