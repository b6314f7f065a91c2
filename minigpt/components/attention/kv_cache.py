"""The keys and values a softmax attention remembers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from minigpt.components.call import Span


class KVCache:
    """A ring of the last ``capacity`` keys and values: (B, n_kv_head, capacity, width) each.

    index: (capacity,) index of the token in each place, -1 while empty. A token's place is its index modulo capacity.
    """

    def __init__(self, batch: int, n_kv_head: int, capacity: int, widths: tuple[int, int], device, dtype):
        self.k = torch.zeros(batch, n_kv_head, capacity, widths[0], device=device, dtype=dtype)
        self.v = torch.zeros(batch, n_kv_head, capacity, widths[1], device=device, dtype=dtype)
        self.index = torch.full((capacity,), -1, device=device)
        self.capacity = capacity

    @property
    def bits(self) -> int:
        return 8 * (self.k.nbytes + self.v.nbytes)

    def select(self, rows: Tensor) -> KVCache:
        """A copy with these rows, in this order; a row may come more than once. rows: (B',) -> of batch B'."""
        chosen = copy.copy(self)
        chosen.k, chosen.v, chosen.index = self.k[rows], self.v[rows], self.index.clone()
        return chosen

    def extend(self, k: Tensor, v: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
        """Remember k, v: (B, n_kv_head, T, width); returns all keys and values these T queries may see, and their
        index."""
        end = span.start + span.length
        if end <= self.capacity:  # nothing is overwritten: a view of the filled part
            self._write(k, v, span.index)
            return self.k[:, :, :end], self.v[:, :, :end], self.index[:end]
        if span.length == 1:  # the one place overwritten is the one no longer in the window
            self._write(k, v, span.index)
            return self.k, self.v, self.index
        # Several queries at the edge of the window: the first still sees keys that the last one pushes out.
        seen_k, seen_v = torch.cat([self.k, k], dim=2), torch.cat([self.v, v], dim=2)
        seen_index = torch.cat([self.index, span.index])
        kept = min(span.length, self.capacity)
        self._write(k[:, :, -kept:], v[:, :, -kept:], span.index[-kept:])
        return seen_k, seen_v, seen_index

    def _write(self, k: Tensor, v: Tensor, index: Tensor) -> None:
        place = index % self.capacity
        self.k[:, :, place] = k.to(self.k.dtype)
        self.v[:, :, place] = v.to(self.v.dtype)
        self.index[place] = index
