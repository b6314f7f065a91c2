"""What a model is, completely: its sizes and the components of every layer. Stored in checkpoints, built by GPT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from minigpt import registry
from minigpt.blocks import BlockSpec, LayerCount, ShareSpec
from minigpt.components.base import BuildContext
from minigpt.config import Length, TrainConfig, Width
from minigpt.errors import UserError
from minigpt.registry import Component, Parts, Spec
from minigpt.schema import Probability, options


@options
class ModelSpec:
    """A resolved model. blocks: one per layer. default: the block that the embedding and the final norm go by.

    parts: the model's own components (embedding, head, init). transforms: what rewrites it once built, in order.
    """

    d_model: Width
    n_head: Width
    head_dim: Width
    n_layer: LayerCount
    block_size: Length
    vocab_size: Length
    bias: bool
    dropout: Probability
    tie_embeddings: bool
    parts: Annotated[Mapping[str, Spec], Parts("model")]
    default: BlockSpec
    blocks: tuple[BlockSpec, ...]
    share: ShareSpec = ShareSpec()
    transforms: tuple[Annotated[Spec, Component("transform")], ...] = ()
    seed: int

    def context(self, layer: int | None = None) -> BuildContext:
        """What layer ``layer`` is built with; None for what stands outside the blocks."""
        return BuildContext(
            d_model=self.d_model,
            n_head=self.n_head,
            head_dim=self.head_dim,
            n_layer=self.n_layer,
            layer_index=-1 if layer is None else layer,
            block_size=self.block_size,
            vocab_size=self.vocab_size,
            bias=self.bias,
            dropout=self.dropout,
            parts=self.parts,
            block=self.default if layer is None else self.blocks[layer],
        )


def resolve(run: TrainConfig, vocab_size: int | None = None) -> ModelSpec:
    """The ModelSpec of a training configuration.

    vocab_size: the dataset's; model.vocab_size may be larger (padded), never smaller.
    Raises UserError when neither gives a size, or the model's is too small.
    """
    wanted = run.model.vocab_size or vocab_size
    if wanted is None:
        raise UserError("model.vocab_size: not known without a dataset. Prepare the dataset, or set model.vocab_size")
    if vocab_size is not None and wanted < vocab_size:
        raise UserError(
            f"model.vocab_size: {wanted} is too small for dataset '{run.data.name}', which has {vocab_size} tokens. "
            f"Take at least {vocab_size}, or null"
        )
    sizes = run.model
    return ModelSpec(
        d_model=sizes.d_model,
        n_head=sizes.n_head,
        head_dim=sizes.head_dim or sizes.d_model // sizes.n_head,
        n_layer=sizes.n_layer,
        block_size=sizes.block_size,
        vocab_size=wanted,
        bias=sizes.bias,
        dropout=sizes.dropout,
        tie_embeddings=sizes.tie_embeddings,
        parts={axis: run.parts[axis] for axis in registry.axes("model")},
        default=run.default_block(),
        blocks=run.resolved_blocks(),
        share=run.share,
        transforms=tuple(run.transforms),
        seed=run.seed,
    )
