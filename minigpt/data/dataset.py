"""The dataset a training run reads: random windows to learn from, and the whole validation split in order."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from minigpt.data.batch import Batch, Tokens
from minigpt.data.dataset_folder import Meta, Prepared, open_prepared, prepared_names
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.data.recipe import load_recipe, recipe_names
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.screen import say


def open_dataset(
    name: str, folder: str = "data", *, block_size: int, prepare_builtin: bool = True, val_tokens: int | None = None
) -> Dataset:
    """Open the prepared dataset ``folder/name`` and check it whole before anything trains on it.

    block_size: the context, in tokens; both splits must be longer. prepare_builtin: a dataset that needs no network is
    prepared now, saying so on stderr. val_tokens: validate on the first so many tokens (None: all).
    Raises UserError for a dataset that is unknown, not prepared, damaged, or too short.
    """
    if prepare_builtin and name not in prepared_names(folder) and name in recipe_names() and load_recipe(name).built_in:
        prepare(PrepareConfig(dataset=name, folder=folder), say=lambda line: say(line, file=sys.stderr))
    dataset = Dataset(open_prepared(name, folder), val_tokens)
    for split, tokens in (("train", dataset.train), ("val", dataset.val)):
        if len(tokens) < block_size + 1:
            cut = f" (cut by data.val_tokens={val_tokens})" if split == "val" and val_tokens == len(tokens) else ""
            raise UserError(
                f"dataset '{name}': its {split} split has {len(tokens)} tokens{cut}, shorter than the context: "
                f"expected at least block_size + 1 = {block_size + 1}.\n"
                f"  Set model.block_size={max(len(tokens) - 1, 1)} or less, or prepare more text or other splits."
            )
    return dataset


class Dataset:
    """Tokens of a prepared dataset.

    train, val: (n,) uint16 or uint32, val cut to the first ``val_tokens``. hash: of the prepared files and tokenizer;
    equal hashes are equal data. meta: what meta.json records. gives: the kind of its batches.
    """

    gives: type[Batch] = Tokens

    def __init__(self, prepared: Prepared, val_tokens: int | None = None):
        self.name: str = prepared.path.name
        self.meta: Meta = prepared.meta
        self.tokenizer: Tokenizer = prepared.tokenizer
        self.vocab_size: int = prepared.meta.vocab_size
        self.hash: str = prepared.meta.hash
        self.train: np.ndarray = prepared.train.tokens
        self.val: np.ndarray = prepared.val.tokens[:val_tokens]
        self._files = prepared
        self._token_bytes = torch.from_numpy(prepared.tokenizer.token_bytes())

    def train_batch(self, step: int, batch_size: int, block_size: int, seed: int) -> Tokens:
        """``batch_size`` windows at random places of the train split.

        The places depend on ``(seed, step)`` alone: any step can be drawn again, so a resumed run needs only its step
        number. With micro-batches or ranks, number them through: step * micro_batches + i.
        """
        generator = np.random.default_rng((seed, step))
        starts = generator.integers(0, len(self.train) - block_size, size=batch_size)
        tokens = torch.from_numpy(self._files.train.read(starts[:, None] + np.arange(block_size + 1)))
        return Tokens(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())

    def val_batches(self, batch_size: int, block_size: int) -> Iterator[Tokens]:
        """The whole validation split once, in order, without overlap: every token but the first is a target once.

        Whole windows come ``batch_size`` at a time, the last batch may hold fewer; the tail, shorter than a window, is
        a batch of its own, (1, T') with T' < block_size.
        """
        targets = len(self.val) - 1
        for start in range(0, targets // block_size * block_size, batch_size * block_size):
            yield self._rows(start, min(batch_size, (targets - start) // block_size), block_size)
        if tail := targets % block_size:
            yield self._rows(targets - tail, 1, tail)

    def target_bytes(self, targets: Tensor) -> int:
        """Bytes of UTF-8 text the targets stand for: total nats / (ln 2 * bytes) is bits per byte."""
        return int(self._token_bytes[targets.cpu()].sum())

    def _rows(self, start: int, rows: int, length: int) -> Tokens:
        tokens = torch.from_numpy(self._files.val.read(slice(start, start + rows * length + 1)))
        return Tokens(tokens[:-1].view(rows, length), tokens[1:].view(rows, length))
