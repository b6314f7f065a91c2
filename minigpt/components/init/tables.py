"""What the policies for the embedding table share: all else starts as another policy says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from minigpt import registry
from minigpt.components.init.base import InitPolicy
from minigpt.components.initialiser import Slot
from minigpt.errors import UserError


class TableInit(InitPolicy):
    """Fills tables of role ``embedding`` by :meth:`draw`, everything else as the policy ``config.rest`` does.

    config.std: root mean square of a table's entries, so that policies differ in its directions alone.
    """

    name: str
    particular = True

    def __init__(self, config: Any):
        self.config = config
        self.rest: InitPolicy = registry.build(registry.spec("init", {"name": config.rest}, "init.rest"))
        if isinstance(self.rest, TableInit):
            raise UserError(f"init.rest: '{config.rest}' is about the embedding table, too. Name a policy for the rest")

    def draw(self, values: Tensor, generator: torch.Generator) -> None:
        """Fill a table, (rows, width), in place."""
        raise NotImplementedError

    def refuse(self, rows: int, width: int) -> None:
        """Raise UserError for a size of table that cannot be filled."""

    def std(self, slot: Slot) -> float:
        return self.config.std if slot.role == "embedding" else self.rest.std(slot)

    def fill(self, values: Tensor, slot: Slot, generator: torch.Generator) -> None:
        if slot.role == "embedding":
            self.draw(values, generator)
        else:
            self.rest.fill(values, slot, generator)

    def rate(self, slot: Slot) -> float:
        return self.rest.rate(slot)

    def check(self, slots: Iterable[Slot]) -> None:
        slots = list(slots)
        tables = [slot for slot in slots if slot.role == "embedding"]
        if not tables:
            raise UserError(
                f"init={self.name}: the embedding starts from embedding.file, so there is no table to fill. "
                f"Set embedding.file=null, or choose init={self.config.rest}"
            )
        for slot in tables:
            self.refuse(*slot.shape)
        self.rest.check(slots)


def directions(values: Tensor, generator: torch.Generator) -> Tensor:
    """Vectors of length 1 in directions that are all as likely, of the shape of ``values``."""
    drawn = torch.empty_like(values).normal_(generator=generator)
    return drawn / drawn.norm(dim=-1, keepdim=True)
