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
    share: Any = None,
    sites: Any = None,
    transforms: Any = (),
    **axes: Any,
) -> ModelSpec:
    """A model of equal layers: the defaults, and on top ``softmax="consmax"`` or ``softmax={"name": ...}``."""
    model_axes = registry.axes("model")
    block = {a: _named(n) for a, n in axes.items() if a not in model_axes} | {"label": "default", "sites": sites or {}}
    sizes = {
        "n_layer": n_layer, "d_model": d_model, "n_head": n_head, "head_dim": d_model // n_head,
        "vocab_size": vocab_size, "block_size": block_size, "bias": bias, "tie_embeddings": tie_embeddings,
        "dropout": dropout, "seed": seed, "share": share or {}, "transforms": list(transforms),
    }  # fmt: skip
    parts = {axis: _named(node) for axis, node in axes.items() if axis in model_axes}
    return typed(ModelSpec, sizes | parts | {"default": block, "blocks": [block] * n_layer})


def _named(node: Any) -> Any:
    return {"name": node} if isinstance(node, str) else node
