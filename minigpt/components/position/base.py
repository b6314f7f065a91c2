"""The position axis: how a token knows where it stands."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from minigpt.components.base import BuildContext, Part
from minigpt.components.call import Call
from minigpt.cost import Cost, Work
from minigpt.registry import declare

declare("position", default="rope", scope="block")


Place = Literal["embedding", "rotary", "score"]


class Position(Part):
    """Built as ``cls(config, ctx, serves, width)``, once for the embedding and once in every attention.

    places: where the encoding acts, each a method: ``embedding`` adds to the token embedding, ``rotary`` turns queries
    and keys, ``score`` adds to the scores. An encoding may act at several. serves: the places this instance is for; it
    owns only the parameters they use. width: of what it turns or adds to. reads_scores: whether ``score_bias`` is a
    function of the scores, so that attention has to compute them one by one.
    """

    places: ClassVar[frozenset[Place]]
    reads_scores: ClassVar[bool] = False

    def __init__(self, config: Any, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__()
        self.serves, self.width = serves, width

    def embed(self, call: Call) -> Tensor:
        """(T, width), or (B, T, width) when rows are padded: what is added to the token embedding."""
        raise NotImplementedError

    def rotate(self, x: Tensor, call: Call, which: Literal["query", "key"]) -> Tensor:
        """x: (B, H, T, width), queries or keys of this call's tokens -> the same, turned by position."""
        raise NotImplementedError

    def score_bias(
        self, q: Tensor, query_position: Tensor, key_position: Tensor, scores: Tensor | None = None
    ) -> Tensor:
        """(H, T, S) or (B, H, T, S), added to the scores. What lies in the future, or is padding, stays masked.

        q: (B, H, T, d), the queries. query_position: (T,), key_position: (S,); (B, T) and (B, S) when rows are padded.
        scores: (B, H, T, S), scaled, -inf where a key is not seen; for an encoding that ``reads_scores``.
        """
        raise NotImplementedError

    def cost(self, work: Work) -> Cost:
        """Of all places served, in one call. ``work.rows``: heads of queries and keys turned, over all tokens, or rows
        of scores; ``work.elements``: scores."""
        raise NotImplementedError
