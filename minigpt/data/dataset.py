"""What a training run reads: windows of one dataset or several to learn from, and whole validation splits in order."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from minigpt.config import DataConfig
from minigpt.data.batch import Batch, Tokens
from minigpt.data.dataset_folder import Meta, Prepared, open_prepared, prepared_names
from minigpt.data.mixing import Schedule, combined
from minigpt.data.order import block_at, blocks_of
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.data.recipe import load_recipe, recipe_names
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.screen import say

Order = Literal["random", "epochs"]


def open_dataset(
    name: str,
    folder: str = "data",
    *,
    block_size: int,
    prepare_builtin: bool = True,
    val_tokens: int | None = None,
    order: Order = "random",
) -> Dataset:
    """Open the prepared dataset ``folder/name`` and check it whole before anything trains on it.

    block_size: the context, in tokens; both splits must be longer. prepare_builtin: a dataset that needs no network is
    prepared now, saying so on stderr. val_tokens: validate on the first so many tokens (None: all). order: of what is
    learned from.
    Raises UserError for a dataset that is unknown, not prepared, damaged, or too short.
    """
    if prepare_builtin and name not in prepared_names(folder) and name in recipe_names() and load_recipe(name).built_in:
        prepare(PrepareConfig(dataset=name, folder=folder), say=lambda line: say(line, file=sys.stderr))
    dataset = Dataset(open_prepared(name, folder), val_tokens, order)
    for split, tokens in (("train", dataset.train), ("val", dataset.val)):
        if len(tokens) < block_size + 1:
            cut = f" (cut by data.val_tokens={val_tokens})" if split == "val" and val_tokens == len(tokens) else ""
            raise UserError(
                f"dataset '{name}': its {split} split has {len(tokens)} tokens{cut}, shorter than the context: "
                f"expected at least block_size + 1 = {block_size + 1}.\n"
                f"  Set model.block_size={max(len(tokens) - 1, 1)} or less, or prepare more text or other splits."
            )
    return dataset


def open_data(data: DataConfig, *, block_size: int, schedule: Schedule | None = None) -> Dataset:
    """Open what a run reads: one dataset, or all that ``schedule`` mixes. Raises UserError as :func:`open_dataset`
    does, and for datasets that do not share one tokenizer."""
    names = [data.name] if schedule is None else [data.name, *(n for n in schedule.names if n != data.name)]
    opened = {
        name: open_dataset(name, data.folder, block_size=block_size, val_tokens=data.val_tokens, order=data.order)
        for name in names
    }
    main = opened[data.name]
    if schedule is None or len(opened) == 1:
        return main
    for name, other in opened.items():
        if other.tokenizer.hash != main.tokenizer.hash:
            raise UserError(
                f"data: '{name}' has another tokenizer ({other.tokenizer.kind}, {other.vocab_size:,} tokens) than "
                f"'{data.name}' ({main.tokenizer.kind}, {main.vocab_size:,}), so one model cannot read both.\n"
                f"  Prepare its text with that one's: python data/prepare.py source=<text> name=<new> "
                f"tokenizer_of={data.folder}/{data.name}"
            )
    return MixedDataset(opened, schedule)


class Dataset:
    """Tokens of a prepared dataset.

    train, val: (n,) uint16 or uint32, val cut to the first ``val_tokens``. hash: of the prepared files and tokenizer;
    equal hashes are equal data. meta: what meta.json records. gives: the kind of its batches. label: what it is called
    on the screen. others: the further datasets, by name, that a run on it validates on.
    """

    gives: type[Batch] = Tokens

    def __init__(self, prepared: Prepared, val_tokens: int | None = None, order: Order = "random"):
        self.name: str = prepared.path.name
        self.label: str = self.name
        self.meta: Meta = prepared.meta
        self.tokenizer: Tokenizer = prepared.tokenizer
        self.vocab_size: int = prepared.meta.vocab_size
        self.hash: str = prepared.meta.hash
        self.order: Order = order
        self.train: np.ndarray = prepared.train.tokens
        self.val: np.ndarray = prepared.val.tokens[:val_tokens]
        self.others: Mapping[str, Dataset] = {}
        self._prepared, self._val_tokens = prepared, val_tokens
        self._token_bytes = torch.from_numpy(prepared.tokenizer.token_bytes())

    def train_batch(self, step: int, batch_size: int, block_size: int, seed: int) -> Tokens:
        """``batch_size`` windows of the train split: at random places, or, in epochs, the blocks whose turn it is.

        They depend on ``(seed, step)`` alone: any step can be drawn again, so a resumed run needs only its step
        number. With micro-batches or ranks, number them through: step * micro_batches + i. In epochs, the n-th row of a
        run is the same under every batch size.
        """
        if self.order == "epochs":
            starts = self.block_starts(step * batch_size + np.arange(batch_size), block_size, seed)
        else:
            generator = np.random.default_rng((seed, step))
            starts = generator.integers(0, len(self.train) - block_size, size=batch_size)
        return _as_batch(self.train_windows(starts, block_size))

    def block_starts(self, rows: np.ndarray, block_size: int, seed: int, source: int = 0) -> np.ndarray:
        """Where the blocks begin that come up as the n-th rows of the split in epochs. source: its number in a mix."""
        return block_at(rows, blocks_of(len(self.train), block_size), seed, source) * block_size

    def train_windows(self, starts: np.ndarray, block_size: int) -> np.ndarray:
        """(n, block_size + 1) int64 tokens of the train split from each of ``starts`` on."""
        return self._prepared.train.windows(starts, block_size + 1)

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
        tokens = torch.from_numpy(self._prepared.val.windows(np.array([start]), rows * length + 1)[0])
        return Tokens(tokens[:-1].view(rows, length), tokens[1:].view(rows, length))


class MixedDataset(Dataset):
    """Several datasets with one tokenizer, mixed row by row as a schedule says. It validates on the first of them, as
    if that were alone; the rest are ``others``.

    hash: of all of them. The shares of a batch are those of the schedule, to within a row or two.
    """

    def __init__(self, opened: Mapping[str, Dataset], schedule: Schedule):
        main = next(iter(opened.values()))
        super().__init__(main._prepared, main._val_tokens, main.order)
        self.hash = combined([each.hash for each in opened.values()])
        self.others = {name: each for name, each in opened.items() if each is not main}
        self.schedule = schedule
        self.sources = [opened[name] for name in schedule.names]
        self.label = " + ".join(schedule.names)

    def train_batch(self, step: int, batch_size: int, block_size: int, seed: int) -> Tokens:
        """``batch_size`` windows, each of the dataset whose turn it is; as the places in it, they depend on ``(seed,
        step)`` alone."""
        chosen, rows = self.schedule.rows(step, batch_size, seed)
        if self.order == "epochs":
            starts = np.empty(batch_size, dtype=np.int64)
            for source in np.unique(chosen):
                here = chosen == source
                starts[here] = self.sources[source].block_starts(rows[here], block_size, seed, int(source))
        else:
            ends = np.array([len(source.train) for source in self.sources]) - block_size
            starts = np.random.default_rng((seed, step)).integers(0, ends[chosen])
        windows = np.empty((batch_size, block_size + 1), dtype=np.int64)
        for source in np.unique(chosen):
            here = chosen == source
            windows[here] = self.sources[source].train_windows(starts[here], block_size)
        return _as_batch(windows)


def _as_batch(windows: np.ndarray) -> Tokens:
    tokens = torch.from_numpy(windows)
    return Tokens(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
