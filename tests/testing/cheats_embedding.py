"""Embeddings that cheat: see :mod:`cheats`."""

from __future__ import annotations

from minigpt.components.embedding.factorised import FactorisedTable
from minigpt.components.embedding.table import TokenTable
from minigpt.registry import register
from minigpt.schema import options


class Table(TokenTable):
    """A table without options."""

    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(TokenTable.Config(), ctx)


@register("embedding", "mean_of_all")
class MeanOfAll(Table):
    """Centred over the tokens of a row."""

    caught_by = "causal"

    def forward(self, tokens, call, state=None):
        vectors = super().forward(tokens, call, state)
        return vectors - 0.1 * vectors.mean(dim=1, keepdim=True)


@register("embedding", "says_frozen")
class SaysFrozen(TokenTable):
    """Has an option to freeze its table, and trains it."""

    caught_by = "options"
    cases = ({"frozen": True},)

    @options
    class Config:
        frozen: bool = False

    changes = {"frozen": "gradient"}

    def __init__(self, config, ctx):
        super().__init__(TokenTable.Config(), ctx)


@register("embedding", "one_factor_back")
class OneFactorBack(FactorisedTable):
    """Its tied head prices the way back through the narrow table alone."""

    caught_by = "products"
    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(FactorisedTable.Config(), ctx)

    def unembed_cost(self, work):
        return TokenTable.unembed_cost(self, work)


@register("embedding", "idle_factor")
class IdleFactor(OneFactorBack):
    """Looks its vectors up past the second factor, which learns nothing."""

    caught_by = "gradients"

    def forward(self, tokens, call, state=None):
        return super().forward(tokens, call, state).detach()

    def unembed(self, x):
        return x @ self.up.detach() @ self.weight.T
