"""How many rows go through the model at once: a number, or as many as memory turns out to hold."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from minigpt.device import is_out_of_memory
from minigpt.errors import UserError

T = TypeVar("T")

TOKENS = {"cuda": 65536, "mps": 16384, "cpu": 4096}
"""Of a batch at first. On a CPU a larger one is no faster."""
ENOUGH = 1024
"""Tokens of a batch that is worth its call."""
ALIKE = 0.85
"""Of the longest row, a row that goes into its batch has at least."""
LOGIT_BYTES = {"cuda": 4 << 30, "mps": 1 << 30, "cpu": 256 << 20}
"""Of a batch's logits at first: what a CPU cannot hold ends the process rather than raising."""


class Batches:
    """Cuts sorted work into batches.

    size: rows of each, or None for as many as fit: a budget of tokens, halved whenever memory runs out, so that shorter
    rows come in larger batches. largest: rows at most. logit_bytes: of one token's logits.
    """

    def __init__(self, size: int | None, device: torch.device, logit_bytes: int, largest: int | None = None):
        self.size, self.largest = size, largest
        self.budget = max(1, min(TOKENS[device.type], LOGIT_BYTES[device.type] // logit_bytes))

    def run(
        self,
        items: Sequence[T],
        length: Callable[[T], int],
        work: Callable[[Sequence[T]], int],
        rows: Callable[[T], int] = lambda item: 1,
    ) -> None:
        """Call ``work`` with one batch after the other.

        items: longest first, or memory may run out late. length, rows: tokens of an item, and rows it takes up. work:
        returns how many of a batch it has done, from its start. Raises UserError when a batch of a
        given size, or a single item, does not fit into memory.
        """
        start = 0
        while start < len(items):
            longest = length(items[start])
            batch = items[start : start + self._fitting(longest, rows(items[start]))]
            if self.size is None:
                batch = batch[: _alike(batch, longest, length)]
            try:
                done = work(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                done = 0
            if done == 0:  # outside of the handler, which keeps the tensors of the failed batch alive
                self._shrink(len(batch), length(items[start]))
            start += done

    def _fitting(self, length: int, rows: int) -> int:
        """How many items like the first one make a batch."""
        items = self.budget // max(1, length) if self.size is None else self.size // rows
        return max(1, items if self.largest is None else min(items, self.largest // rows))

    def _shrink(self, rows: int, length: int) -> None:
        if self.size is not None or rows == 1:
            way_out = "a shorter context" if rows == 1 else "a smaller batch_size, or batch_size=auto"
            raise UserError(f"batch_size: {rows} rows of {length} tokens do not fit into memory. Take {way_out}")
        self.budget = rows // 2 * max(1, length)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _alike(batch: Sequence[T], longest: int, length: Callable[[T], int]) -> int:
    """How many of a batch, from its start, are so long that padding them is cheaper than another batch."""
    enough = -(-ENOUGH // max(1, longest))
    return next((i for i in range(enough, len(batch)) if length(batch[i]) < ALIKE * longest), len(batch))
