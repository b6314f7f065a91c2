"""The head axis: from the last block's output to logits."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from minigpt.components.base import BuildContext, Part
from minigpt.components.call import Call
from minigpt.components.embedding.base import Embedding
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import declare

declare("head", default="linear", scope="model")


class Head(Part):
    """Built as ``cls(config, ctx, embedding)``. x: (B, T, d_model) -> logits of the next token (B, T, vocab_size).

    embedding: what scores the vocabulary when the head is tied to it; None gives the head a linear map of its own, at
    the site ``head``, which is plain unless ``sites.linear.head`` says otherwise. A head of several future tokens
    provides the further logits by name, for the task that needs them. input_maps: attributes of the linear maps that
    are all that reads x, if that is so.
    """

    uses = frozenset({"linear"})
    input_maps: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, ctx: BuildContext, embedding: Embedding | None):
        super().__init__()
        self.tied_to: tuple[Embedding | None] = (None,)  # in a tuple: a part of the model already, not of this one
        if embedding is not None:
            self.tie(embedding)
        self.linear: Any = None
        if embedding is None:
            self.linear = ctx.linear(ctx.d_model, ctx.vocab_size, site="head", role="head", bias=False, only_site=True)

    def tie(self, embedding: Any) -> None:
        """Let ``embedding`` score the vocabulary; raises UserError for one that cannot."""
        if not isinstance(embedding, Embedding) or not embedding.tied_head:
            name = getattr(embedding, "name", type(embedding).__name__)
            raise UserError(
                f"model.tie_embeddings: embedding={name} cannot score the vocabulary. Set model.tie_embeddings=false"
            )
        self.tied_to = (embedding,)

    def score(self, x: Tensor) -> Tensor:
        """x: (B, T, d_model) -> (B, T, vocab_size), by the head's own map or the embedding's."""
        embedding = self.tied_to[0]
        return self.linear(x) if embedding is None else embedding.unembed(x)

    def forward(self, x: Tensor, call: Call) -> Tensor:
        raise NotImplementedError

    def cost(self, work: Work) -> Cost:
        """Of :meth:`score`. ``work.rows``: tokens whose logits are wanted."""
        embedding = self.tied_to[0]
        if embedding is not None:
            return embedding.unembed_cost(work)
        return Cost(parts={"linear": self.linear.cost(work)})
