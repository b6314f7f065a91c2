"""The GPT: embedding, blocks, final norm, head. It knows the registry, never a variant by name."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minigpt import registry
from minigpt.components.base import BuildContext, Part
from minigpt.components.call import Call, Span
from minigpt.components.initialiser import Initialiser, Role
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.model.assembly import (
    build_blocks,
    counted_once,
    handed_on,
    refuse_ignored,
    refuse_other_streams,
    refuse_unfilled,
    refuse_unfit_slots,
    sublayers_followed,
    tie_again,
)
from minigpt.model.deferring import join_norms
from minigpt.model.spec import ModelSpec


class DecodingState:
    """What a model remembers between calls: a state of the embedding, one per layer, how many tokens it has seen, the
    rows' left padding."""

    def __init__(self, embedding: Any, layers: list[Any], capacity: int, padding: Tensor | None):
        self.embedding, self.layers, self.capacity, self.padding = embedding, layers, capacity, padding
        self.seen = 0

    @property
    def bits(self) -> int:
        return sum(state.bits for state in (self.embedding, *self.layers) if state is not None)

    @property
    def can_select(self) -> bool:
        """Whether every part's state offers ``select``."""
        return all(hasattr(state, "select") for state in (self.embedding, *self.layers) if state is not None)

    def select(self, rows: Tensor) -> DecodingState:
        """A copy with these rows, in this order; a row may come more than once. rows: (B',), on the model's device."""
        embedding, *layers = (None if state is None else state.select(rows) for state in (self.embedding, *self.layers))
        padding = None if self.padding is None else self.padding[rows]
        chosen = DecodingState(embedding, layers, self.capacity, padding)
        chosen.seen = self.seen
        return chosen


class Output(NamedTuple):
    """What one forward gives. logits: (B, T, vocab_size).

    losses: auxiliary losses that parts recorded, by name, summed over the layers; weights: what each counts for.
    metrics: figures they recorded, 0-d or 1-d. shared: tensors that parts provided and a task needs.
    """

    logits: Tensor
    losses: dict[str, Tensor]
    weights: dict[str, float]
    metrics: dict[str, Tensor]
    shared: dict[str, Tensor]


class GPT(nn.Module):
    """tokens (B, T) -> embedding (B, T, d_model) -> stream of the blocks -> final norm -> logits (B, T, vocab_size).

    ``sites.norm.embedding`` norms what is embedded (BLOOM, arXiv:2211.05100); none is there otherwise.

    Build one with :meth:`create` (initialised, on a device) or :meth:`on_meta` (shapes only, no memory).
    provides: names of the tensors some part hands on. returns: those of them an Output holds.
    """

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.spec = spec
        outside = spec.context()
        self.embedding = outside.build("embedding")
        self.position = _build_embedding_position(outside)
        self.embedding_norm = _build_embedding_norm(outside)
        self.dropout = nn.Dropout(spec.dropout)
        self.residual = outside.build("residual", "model")
        provided = handed_on(self.embedding, frozenset(), "embedding")
        if self.position is not None:
            provided = handed_on(self.position, provided, "embedding")
        blocks, contexts = build_blocks(spec, provided)
        self.blocks: Any = nn.ModuleList(blocks)
        self.final_norm = outside.norm(site="final") if blocks[-1].final_norm else None
        provided = frozenset().union(*(part.provides for part in self.modules() if isinstance(part, Part)))
        outside = dataclasses.replace(outside, before=provided)
        self.head = outside.build("head", self.embedding if spec.tie_embeddings else None)
        self.provides = handed_on(self.head, provided, "head")
        self.returns: frozenset[str] = frozenset()
        self.checkpoint_activations = False
        self.penalising: tuple[Part, ...] = ()  # parts with a loss of their parameters alone
        refuse_other_streams(blocks, self.residual)
        self.residual.follow(sublayers_followed(blocks))
        refuse_ignored(spec, contexts, outside)

    @classmethod
    def on_meta(cls, spec: ModelSpec) -> GPT:
        """Build shapes without memory: enough for its parameters' count, its cost, and every check of a combination."""
        with torch.device("meta"):
            model = cls(spec)
            transforms = [registry.build(transform) for transform in spec.transforms]
            for transform in transforms:
                transform.apply(model)
        parts = [part for part in model.modules() if isinstance(part, Part)]
        model.penalising = tuple(part for part in parts if type(part).penalise is not Part.penalise)
        tie_again(model, model.embedding)
        refuse_unfilled(model, loaded=any(transform.needs_weights for transform in transforms))
        join_norms(model)
        refuse_unfit_slots(model)
        return model

    @classmethod
    def create(
        cls, spec: ModelSpec, device: torch.device | str = "cpu", *, initialise: bool | frozenset[str] = True
    ) -> GPT:
        """Build on ``device``. initialise: False leaves the parameters' values to a checkpoint that is loaded next, a
        set of names fills only those.

        Raises UserError when a transform cannot start without weights.
        """
        model = cls.on_meta(spec).to_empty(device=device)
        for module in model.modules():
            if isinstance(module, Part):
                module.init_buffers()
        if initialise is True:
            refuse_without_weights(spec)
        if initialise:
            model.initialiser(initialise).walk(model, model.blocks)
        return model

    def forward(self, tokens: Tensor, state: DecodingState | None = None, *, last_only: bool = False) -> Output:
        """tokens: (B, T) int64 -> logits (B, T, vocab_size), or (B, 1, vocab_size) of the last token.

        state: from :meth:`new_state`; the call goes on where the last one ended, and remembers these tokens too.
        """
        call = Call(self._span(tokens, state))
        x = self.embedding(tokens, call, None if state is None else state.embedding)  # (B, T, d_model)
        if self.position is not None:
            x = x + self.position.embed(call)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        stream = self.residual.open(self.dropout(x))
        for layer, block in enumerate(self.blocks):
            stream = self._through(
                block, stream, call.inside(layer), call, None if state is None else state.layers[layer]
            )
        x = self.residual.close(stream)
        if last_only:
            x = x[:, -1:]
        if self.final_norm is not None:
            x = self.final_norm(x)
        logits = self.head(x, call)
        for part in self.penalising if self.training else ():
            part.penalise(call)
        if state is not None:
            state.seen += tokens.shape[1]
        shared = {name: call.need(name) for name in self.returns}
        return Output(logits, call.losses, call.weights, call.metrics, shared)

    def _through(self, block: Any, stream: Tensor, before: Call, after: Call, state: Any) -> Tensor:
        """The stream after a block. ``before`` is never written to, so that the block can be run again from it."""

        def run(stream: Tensor) -> tuple[Tensor, Call]:
            own = before.copy()
            return block(stream, own, state), own

        if self.checkpoint_activations and self.training and state is None:
            stream, own = checkpoint(run, stream, use_reentrant=False)
        else:
            stream, own = run(stream)
        after.join(own)
        return stream

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._a_number().device

    def _a_number(self) -> Tensor:
        """One of its real numbers, a parameter if it has any: they are all in one place and of one precision."""
        return next(t for t in itertools.chain(self.parameters(), self.buffers()) if t.is_floating_point())

    def return_also(self, names: Iterable[str]) -> None:
        """Have every Output hold these tensors too; raises UserError for one that no part provides."""
        for name in names:
            if name not in self.provides:
                provided = ", ".join(sorted(self.provides)) or "nothing"
                raise UserError(f"no part of this model provides '{name}'; provided: {provided}")
        self.returns = frozenset(names)

    def new_state(self, batch: int, capacity: int | None = None, padding: Tensor | None = None) -> DecodingState:
        """An empty state for ``capacity`` tokens per row (None: block_size).

        padding: (B,) tokens of padding at each row's left. Raises ValueError for more than block_size tokens: position
        tables end there.
        """
        capacity = self.spec.block_size if capacity is None else capacity
        if capacity > self.spec.block_size:
            raise ValueError(f"capacity {capacity} is more than block_size {self.spec.block_size}")
        number = self._a_number()
        sizes = (batch, capacity, number.device, number.dtype)
        layers = [block.new_state(*sizes) for block in self.blocks]
        return DecodingState(self.embedding.new_state(*sizes), layers, capacity, padding)

    def cost(self, work: Work) -> Cost:
        """What one call costs, as a tree of parts named like the modules; a shared part's parameters count once."""
        per_token = work.over(work.all_tokens, work.all_tokens * self.spec.d_model)
        rows = work.batch if work.last_only else work.all_tokens
        last = work.over(rows, rows * self.spec.d_model)
        parts = {"embedding": self.embedding.cost(work)}
        if self.position is not None:
            parts["position"] = self.position.cost(work)
        if self.embedding_norm is not None:
            parts["embedding_norm"] = self.embedding_norm.cost(per_token)
        parts["residual"] = self.residual.cost(per_token)
        parts |= {f"blocks.{layer}": block.cost(work) for layer, block in enumerate(self.blocks)}
        if self.final_norm is not None:
            parts["final_norm"] = self.final_norm.cost(last)
        parts["head"] = self.head.cost(last)
        return counted_once(Cost(parts=parts), self)

    def roles(self) -> dict[str, Role]:
        """The role of every parameter, by qualified name."""
        return self.initialiser(False).walk(self, self.blocks)

    def initialiser(self, fill: bool | frozenset[str]) -> Initialiser:
        """What gives this model's parameters their first values: all, none, or those named."""
        spec = self.spec
        return Initialiser(registry.build(spec.parts["init"]), spec.seed, spec.n_layer, spec.d_model, fill=fill)

    def rates(self) -> dict[str, float]:
        """By what factor the init policy wants parameters to learn slower or faster than the rest: name -> factor."""
        initialiser = self.initialiser(False)
        initialiser.walk(self, self.blocks)
        return {name: initialiser.policy.rate(slot) for name, slot in initialiser.slots.items()}

    def parameter_count(self) -> int:
        """Numbers it holds; a tied or shared one counts once."""
        return sum(p.numel() for p in self.parameters())

    def trainable_count(self) -> int:
        """Those of them that training moves."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def _span(self, tokens: Tensor, state: DecodingState | None) -> Span:
        start = 0 if state is None else state.seen
        limit = self.spec.block_size if state is None else state.capacity
        if start + tokens.shape[1] > limit:
            raise ValueError(f"{start} + {tokens.shape[1]} tokens are more than the {limit} this call has room for")
        return Span(start, tokens.shape[1], tokens.device, None if state is None else state.padding)


def _build_embedding_position(outside: BuildContext) -> Any:
    """The default block's position encoding, if it acts on the token embedding."""
    chosen = outside.block.spec("position")
    if "embedding" not in registry.get("position", chosen.name).places:
        return None
    return outside.build("position", frozenset({"embedding"}), outside.d_model)


def _build_embedding_norm(outside: BuildContext) -> Any:
    """The norm of what is embedded, token and position together; only where one is chosen for this very place."""
    if "embedding" not in outside.block.sites.get("norm", {}):
        return None
    return outside.norm(site="embedding")


def refuse_without_weights(spec: ModelSpec) -> None:
    """Raise UserError for a transform that no model can start with."""
    for transform in spec.transforms:
        if registry.get("transform", transform.name).needs_weights:
            raise UserError(
                f"transforms: {transform.name} rewrites weights that are there already. "
                f"Start from a trained model: init_from=out/<run>"
            )
