"""The embedding axis: from tokens to vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minigpt.components.base import Part
from minigpt.components.call import Call
from minigpt.components.embedding.vectors import read_vectors
from minigpt.components.initialiser import Initialiser
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


class StoredRows(Embedding, nn.Embedding):  # type: ignore[misc]
    """One learned row per token, E: weight (vocab_size, width), drawn by the init policy or read from a file.

    It is a ``torch.nn.Embedding``, so that what looks for those finds it.
    """

    def build_table(self, vocab_size: int, width: int, file: str | None, frozen: bool) -> None:
        """To be called in place of a constructor. file: where the rows are read from when training starts."""
        nn.Embedding.__init__(self, vocab_size, width)
        self.weight.requires_grad_(not frozen)
        self.file = file

    def reset_parameters(self) -> None:
        """Nothing: first values come from :meth:`init_parameters`."""

    def init_parameters(self, init: Initialiser) -> None:
        if self.file is None:
            init.matrix(self.weight, "embedding", fan_in=self.embedding_dim)
        else:
            file, shape = self.file, tuple(self.weight.shape)
            init.values(self.weight, lambda _: read_vectors(file, shape), "embedding")
