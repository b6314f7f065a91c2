"""The position axis: how a token knows where it stands."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from minigpt.components.base import Part, Span


class Position(Part):
    """Built as ``cls(config, ctx)``. A variant works at one place, and implements that one method.

    kind: ``embedding`` adds to the token embedding, once per model; ``rotary`` turns queries and keys and ``bias`` adds
    to the scores, in every attention that supports it; ``none`` does nothing.
    """

    kind: ClassVar[Literal["embedding", "rotary", "bias", "none"]]

    def embed(self, span: Span) -> Tensor:
        """(T, d_model), or (B, T, d_model) when rows are padded: what is added to the token embedding."""
        raise NotImplementedError

    def rotate(self, x: Tensor, span: Span) -> Tensor:
        """x: (B, H, T, head_dim), queries or keys -> the same, turned by position."""
        raise NotImplementedError

    def bias(self, query_index: Tensor, key_index: Tensor) -> Tensor:
        """query_index: (T,), key_index: (S,) -> (H, T, S), added to the scores."""
        raise NotImplementedError
