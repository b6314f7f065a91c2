"""Learned positions that repeat, each with a period of its own."""

from __future__ import annotations

import functools
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Limit, Range, options


@register("position", "cyclic")
class CyclicPosition(Position):
    """y_t = x_t + sum over c of P_c[t mod c]: a learned table of c rows for every period c.

    Periods without a common divisor tell as many positions apart as their product, 10296 at the defaults, with as many
    rows as their sum, 41. No position is beyond the tables. No paper; in use in ReaLLM-Forge, a fork of nanoGPT. Learns
    P_c: (c, width), one below the other.
    """

    places = frozenset({"embedding"})

    @options
    class Config:
        periods: tuple[Annotated[int, Range(ge=2), Limit(2**31 - 1)], ...] = (8, 9, 11, 13)

    cases = [{"periods": [3, 5]}]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        self.periods = config.periods
        _refuse_idle(config.periods)
        self.weight = nn.Parameter(torch.empty(sum(config.periods), width))

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, "position", fan_in=self.width)

    def embed(self, call: Call) -> Tensor:
        positions, tables = call.span.positions, self.weight.split(self.periods)
        rows = [F.embedding(positions % c, table) for c, table in zip(self.periods, tables, strict=True)]
        return functools.reduce(torch.add, rows)

    def cost(self, work: Work) -> Cost:
        """The rows of a position are added once for all sequences, then to every token."""
        n, one = work.all_tokens * self.width, work.tokens * self.width
        ops = {"add": n + (len(self.periods) - 1) * one}
        return Cost(
            params=self.own_params(), weights_read={"native": len(self.periods) * one}, ops=ops, activations=2 * n
        )


def _refuse_idle(periods: tuple[int, ...]) -> None:
    """Raise UserError for a table that says nothing the others could not."""
    if not periods:
        raise UserError("position.periods: has no period, so nothing would be added. Name some, or take position=nope")
    for i, each in enumerate(periods):
        for j, other in enumerate(periods):
            if i != j and other % each == 0 and (other > each or i > j):
                raise UserError(
                    f"position.periods: a table of period {each} says nothing that one of {other} could not. "
                    f"Leave it out, or take periods without a common divisor"
                )
