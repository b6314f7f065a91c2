"""Small models for tests, by the names of their parts."""

from __future__ import annotations

from typing import Any

from minigpt import registry
from minigpt.model import ModelSpec
from minigpt.schema import typed


def make_spec(
    n_layer: int = 2,
    d_model: int = 32,
    n_head: int = 4,
    vocab_size: int = 50,
    block_size: int = 16,
    bias: bool = False,
    tie_embeddings: bool = True,
    dropout: float = 0.0,
    seed: int = 0,
    init: Any = "gpt2",
    **axes: Any,
) -> ModelSpec:
    """A model of equal layers: the house defaults, and on top ``softmax="consmax"`` or ``softmax={"name": ...}``."""
    chosen = {axis: registry.HOUSE_DEFAULTS[axis] for axis in registry.BLOCK_AXES} | axes
    block = {axis: _named(node) for axis, node in chosen.items()} | {"label": "default"}
    sizes = {
        "n_layer": n_layer, "d_model": d_model, "n_head": n_head, "head_dim": d_model // n_head,
        "vocab_size": vocab_size, "block_size": block_size, "bias": bias, "tie_embeddings": tie_embeddings,
        "dropout": dropout, "seed": seed,
    }  # fmt: skip
    blocks = {"default": block, "blocks": [block] * n_layer, "init": _named(init)}
    return typed(ModelSpec, sizes | blocks)


def _named(node: Any) -> Any:
    return {"name": node} if isinstance(node, str) else node
