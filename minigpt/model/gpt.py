"""The GPT: embedding, blocks, final norm, head. It knows the registry, never a variant by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minigpt import registry
from minigpt.blocks import BlockSpec
from minigpt.components.base import BuildContext, Initialiser, Part, Role, Span
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.model.embedding import Head, TokenEmbedding
from minigpt.model.spec import ModelSpec
from minigpt.registry import BLOCK_AXES, HOUSE_DEFAULTS


class DecodingState:
    """What a model remembers between calls: one state per layer, how many tokens it has seen, the rows' left
    padding."""

    def __init__(self, layers: list[Any], capacity: int, padding: Tensor | None):
        self.layers, self.capacity, self.padding = layers, capacity, padding
        self.seen = 0

    @property
    def bits(self) -> int:
        return sum(layer.bits for layer in self.layers if layer is not None)


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
    """tokens (B, T) -> embedding (B, T, d_model) -> blocks -> final norm -> logits (B, T, vocab_size).

    Build one with :meth:`create` (initialised, on a device) or :meth:`on_meta` (shapes only, no memory).
    """

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.spec = spec
        outside = spec.context()
        self.embedding = TokenEmbedding(spec.vocab_size, spec.d_model)
        self.position = _build_embedding_position(outside)
        self.dropout = nn.Dropout(spec.dropout)
        contexts = [spec.context(layer) for layer in range(spec.n_layer)]
        for context in contexts:
            context.used.update(_position_honoured_outside(context, outside))
        self.blocks: Any = nn.ModuleList(context.build("layout") for context in contexts)
        self.final_norm = outside.norm() if self.blocks[-1].final_norm else None
        self.head = Head(spec.vocab_size, spec.d_model, self.embedding if spec.tie_embeddings else None)
        self.checkpoint_activations = False
        _refuse_ignored(spec.blocks, contexts)

    @classmethod
    def on_meta(cls, spec: ModelSpec) -> GPT:
        """Build shapes without memory: enough for its parameters' count, its cost, and every check of a combination."""
        with torch.device("meta"):
            return cls(spec)

    @classmethod
    def create(cls, spec: ModelSpec, device: torch.device | str = "cpu", *, initialise: bool = True) -> GPT:
        """Build on ``device``. initialise: False leaves the parameters' values to a checkpoint that is loaded next."""
        model = cls.on_meta(spec).to_empty(device=device)
        if spec.tie_embeddings:
            model.head.weight = model.embedding.weight  # to_empty gave each a memory of its own
        for module in model.modules():
            if isinstance(module, Part):
                module.init_buffers()
        if initialise:
            Initialiser(registry.build(spec.init), spec.seed, spec.n_layer).walk(model)
        return model

    def forward(self, tokens: Tensor, state: DecodingState | None = None, *, last_only: bool = False) -> Output:
        """tokens: (B, T) int64 -> logits (B, T, vocab_size), or (B, 1, vocab_size) of the last token.

        state: from :meth:`new_state`; the call goes on where the last one ended, and remembers these tokens too.
        """
        span = self._span(tokens, state)
        x = self.embedding(tokens)  # (B, T, d_model)
        if self.position is not None:
            x = x + self.position.embed(span)
        x = self.dropout(x)
        for layer, block in enumerate(self.blocks):
            if self.checkpoint_activations and self.training and state is None:
                x = checkpoint(block, x, span, use_reentrant=False)
            else:
                x = block(x, span, None if state is None else state.layers[layer])
        if last_only:
            x = x[:, -1:]
        if self.final_norm is not None:
            x = self.final_norm(x)
        if state is not None:
            state.seen += tokens.shape[1]
        return Output(self.head(x), {}, {}, {}, {})

    def return_also(self, names: Iterable[str]) -> None:
        """Have every Output hold these tensors too; raises UserError for one that no part provides."""
        for name in names:
            raise UserError(f"no part of this model provides '{name}'; provided: nothing")

    def new_state(self, batch: int, capacity: int | None = None, padding: Tensor | None = None) -> DecodingState:
        """An empty state for ``capacity`` tokens per row (None: block_size).

        padding: (B,) tokens of padding at each row's left. Raises ValueError for more than block_size tokens: position
        tables end there.
        """
        weight = self.embedding.weight
        capacity = self.spec.block_size if capacity is None else capacity
        if capacity > self.spec.block_size:
            raise ValueError(f"capacity {capacity} is more than block_size {self.spec.block_size}")
        layers = [block.new_state(batch, capacity, weight.device, weight.dtype) for block in self.blocks]
        return DecodingState(layers, capacity, padding)

    def cost(self, work: Work) -> Cost:
        """What one call costs, as a tree of parts named like the modules."""
        rows = work.batch if work.last_only else work.all_tokens
        parts = {"embedding": self.embedding.cost(work)}
        if self.position is not None:
            parts["position"] = self.position.cost(work)
        parts |= {f"blocks.{layer}": block.cost(work) for layer, block in enumerate(self.blocks)}
        if self.final_norm is not None:
            parts["final_norm"] = self.final_norm.cost(work.over(rows, rows * self.spec.d_model))
        parts["head"] = self.head.cost(work)
        return Cost(parts=parts)

    def roles(self) -> dict[str, Role]:
        """The role of every parameter, by qualified name."""
        return Initialiser(None, 0, self.spec.n_layer, fill=False).walk(self)

    def parameter_count(self) -> int:
        """Numbers it holds; a tied head counts once."""
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
    """The position encoding, if it is of the kind that adds to the token embedding."""
    chosen = outside.block.position
    if registry.get("position", chosen.name).kind != "embedding":
        return None
    return outside.build("position")


def _position_honoured_outside(context: BuildContext, outside: BuildContext) -> set[str]:
    """Whether a layer's position is what the model adds to its embeddings: the same encoding, or none and none."""
    if "position" in outside.used:
        return {"position"} if context.block.position == outside.block.position else set()
    kind = registry.get("position", context.block.position.name).kind
    return {"position"} if kind == "none" else set()


def _refuse_ignored(blocks: tuple[BlockSpec, ...], contexts: list[BuildContext]) -> None:
    """Raise UserError for a choice that no layer of the model uses: it would seem to have no effect.

    The house default of an axis may stand unused, so that ``attention=identity`` needs no further words.
    """
    for axis in BLOCK_AXES:
        honoured = [getattr(b, axis) for b, c in zip(blocks, contexts, strict=True) if axis in c.used]
        for block, context in zip(blocks, contexts, strict=True):
            chosen = getattr(block, axis)
            if axis in context.used or chosen in honoured:
                continue
            default = registry.spec(axis, HOUSE_DEFAULTS[axis])
            if chosen != default:
                raise UserError(
                    f"{axis}={chosen} would be ignored: attention={block.attention}, mlp={block.mlp} and "
                    f"layout={block.layout} use no {axis}. Leave {axis}={default}, or choose another "
                    f"{'mlp' if axis == 'activation' else 'attention'}"
                )
