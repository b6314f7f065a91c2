"""An embedding table of different corners of a cube."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.init.tables import TableInit
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Name, PositiveFloat, options


@register("init", "hypercube")
class HypercubeInit(TableInit):
    """E_ij = std if bit j mod b of i is 1, else -std: every row of the embedding table is a corner of a cube of its
    own.

    b: bits of the largest i. So every bit has about as many columns, and no two rows are the same. No paper; in use in
    ReaLLM-Forge, a fork of nanoGPT. std: root mean square of an entry. rest: the policy of everything else.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02
        rest: Name = "gpt2"

    cases = [{"std": 0.1, "rest": "fan_in"}]
    changes = {"std": "start", "rest": "start"}

    def refuse(self, rows: int, width: int) -> None:
        if bits_of(rows) > width:
            raise UserError(
                f"init=hypercube: {rows} tokens have numbers of {bits_of(rows)} bits, a table of width {width} has no "
                f"column for each. Take a wider one, or init=random_hypercube"
            )

    def draw(self, values: Tensor, generator: torch.Generator) -> None:
        rows, width = values.shape
        bit = torch.arange(width) % bits_of(rows)
        ones = (torch.arange(rows)[:, None] >> bit) & 1  # (rows, width)
        values.copy_((2 * ones - 1) * self.config.std)


def bits_of(rows: int) -> int:
    """Bits that the numbers of so many rows take."""
    return max(1, (rows - 1).bit_length())
