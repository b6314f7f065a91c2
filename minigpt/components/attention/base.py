"""The attention axis: the sub-layer that mixes tokens, and the state it keeps while decoding."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from minigpt import registry
from minigpt.components.base import BuildContext, Part
from minigpt.components.call import Call
from minigpt.components.position.base import Place
from minigpt.components.residual.base import mixes_values
from minigpt.errors import UserError
from minigpt.registry import declare

declare("attention", default="causal", scope="block")


class LayerState(Protocol):
    """What one layer remembers between calls of a cached decode."""

    @property
    def bits(self) -> int:
        """Memory it takes, whole batch; a test holds :attr:`Cost.state_bits` to it."""
        ...


class Attention(Part):
    """Built as ``cls(config, ctx)``. x: (B, T, d_model) -> (B, T, d_model); token t sees tokens up to t, itself
    included.

    places: the places of a position encoding this attention honours (see Position.places). mixes_values: whether it
    takes a residual between the values of layers, see :meth:`build_value_mix`. silent: it adds nothing to
    the stream, so a layout builds no norm and no residual for it. input_maps: attributes of the linear maps that are
    all that reads x, if that is so.
    """

    places: ClassVar[frozenset[Place]] = frozenset()
    mixes_values: ClassVar[bool] = False
    silent: bool = False
    input_maps: ClassVar[tuple[str, ...]] = ()

    @property
    def path(self) -> str:
        """How torch computes it as it is configured, in a few words for the table of layers: ``fused``, ``explicit, for
        its softcap``, ``in chunks of 64``."""
        return "as written"

    def forward(self, x: Tensor, call: Call, state: Any = None) -> Tensor:
        raise NotImplementedError

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> Any:
        """An empty state for up to ``capacity`` tokens per row; None when nothing is remembered."""
        return None

    def build_value_mix(self, ctx: BuildContext, heads: int, width: int) -> Any:
        """The block's residual between the values of layers, None where there is none. Its ``mix(v, call)`` gives what
        is attended to and cached. heads, width: of the values, (B, heads, T, width)."""
        return ctx.build("residual", "values", (heads, width), site="values") if mixes_values(ctx.block) else None

    def build_position(self, ctx: BuildContext, width: int | None = None) -> Any:
        """The block's position encoding if it acts inside attention, else None; refuses one this attention ignores.

        width: of the queries and keys that are turned; None is head_dim.
        """
        chosen = ctx.block.spec("position")
        inside = _inside(chosen.name)
        if not inside:
            return None
        if not inside <= self.places:
            fitting = [name for name in registry.names("position") if _inside(name) <= self.places]
            raise UserError(
                f"attention={self.name} does not support position={chosen.name}, which acts on "
                f"{' and '.join(sorted(inside - self.places))}. "
                f"Choose position={'|'.join(fitting)}, or attention=causal"
            )
        return ctx.build("position", inside, ctx.head_dim if width is None else width)


def _inside(position: str) -> frozenset[Place]:
    """Where an encoding acts within attention."""
    return registry.get("position", position).places - {"embedding"}
