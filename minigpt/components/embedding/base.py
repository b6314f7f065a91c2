"""The embedding axis: from tokens to vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt.components.base import Part
from minigpt.components.call import Call
from minigpt.cost import Cost, Work
from minigpt.registry import declare

declare("embedding", default="table", scope="model")

EXAMPLE = str(Path(__file__).with_name("example.safetensors"))
"""Tables of 50 tokens, of 32 channels and of 8, for cases that start from a file."""


class Embedding(Part):
    """Built as ``cls(config, ctx)``. tokens: (B, T) int64 -> (B, T, d_model).

    tied_head: whether the same parameters can score the vocabulary, so that ``model.tie_embeddings`` may ask for it.
    """

    tied_head: bool = True

    def forward(self, tokens: Tensor, call: Call, state: Any = None) -> Tensor:
        raise NotImplementedError

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> Any:
        """An empty state for a cached decode; None when nothing is remembered."""
        return None

    def unembed(self, x: Tensor) -> Tensor:
        """x: (B, T, d_model) -> logits (B, T, vocab_size), by the same parameters: what a tied head computes."""
        raise NotImplementedError

    def unembed_cost(self, work: Work) -> Cost:
        """Of :meth:`unembed` over ``work.rows`` rows, without the parameters, which :meth:`cost` has counted."""
        raise NotImplementedError
