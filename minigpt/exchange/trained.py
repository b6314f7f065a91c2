"""A trained model with its tokenizer, read from wherever it lies: what sampling, evaluation and export start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from minigpt.data import tokenizers
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.exchange.opened import open_foreign, own_folder
from minigpt.model import GPT
from minigpt.model.checkpoint import Checkpoint, load_checkpoint


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """model: in eval mode, on the device asked for. tokenizer: never has more tokens than the model, whose vocabulary
    may be padded. meta: what is known of its training (step, val_loss). folder: where it lies."""

    model: GPT
    tokenizer: Tokenizer
    meta: dict[str, Any]
    folder: Path


def load_trained(path: Path | str, device: torch.device | str = "cpu", plugins: Sequence[str] = ()) -> TrainedModel:
    """Read a run's folder (its best checkpoint, else its last), a checkpoint's, or another project's model.

    plugins: modules to import first; those a checkpoint lists are never imported for its sake.
    Raises UserError when there is none, it is torn, of parts not registered here, or has a tokenizer of another model.
    """
    foreign = open_foreign(path)
    if foreign is not None:
        return TrainedModel(foreign.build(device), foreign.checked_tokenizer(), foreign.meta, foreign.place)
    checkpoint = load_checkpoint(own_folder(path), device, plugins=plugins)
    return TrainedModel(checkpoint.model, _tokenizer(checkpoint), checkpoint.meta, checkpoint.folder)


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    path = str(checkpoint.folder / "tokenizer.json")
    tokenizer = tokenizers.from_json(checkpoint.tokenizer, path)
    if tokenizer.vocab_size > checkpoint.spec.vocab_size:
        raise UserError(
            f"{path}: {tokenizer.vocab_size} tokens, but the model has {checkpoint.spec.vocab_size}: not its tokenizer"
        )
    return tokenizer
