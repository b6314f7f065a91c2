"""The task axis: what is learned from what. Validation is plain cross-entropy of the next token under every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minigpt.data.batch import Batch, Tokens
from minigpt.data.dataset import Dataset
from minigpt.model import Output
from minigpt.registry import declare

declare("task", default="next_token", scope="run")


class Learned(NamedTuple):
    """What a task makes of a micro-batch. loss: a scalar, the mean over what the batch teaches.

    figures: scalars or short vectors to log, by name; they stay on the device and their means are logged.
    """

    loss: Tensor
    figures: Mapping[str, Tensor] = {}


class Task:
    """Built as ``cls(config)``. A variant turns a model's output for a batch into a loss, in :meth:`__call__`.

    The trainer adds the auxiliary losses that the model's parts recorded, divides by the accumulation and scales.

    reads: the kind of batch the dataset has to give. needs: tensors some part of the model has to provide; they arrive
    in ``output.shared``. checkpoints: the further models needed, name -> a run's folder or a checkpoint's; they arrive
    in ``models``, in eval mode: ``self.models["teacher"](batch.inputs)`` is their Output, without gradients.
    in_nats: whether the loss is in nats per token, so that one far above guessing has diverged. stage: what a training
    of this kind is for, in the record.
    """

    reads: type[Batch] = Tokens
    in_nats: bool = True
    stage: str = "pretraining"
    needs: frozenset[str] = frozenset()
    checkpoints: Mapping[str, str] = {}
    models: Mapping[str, Callable[[Tensor], Output]] = {}

    def draw(self, dataset: Dataset, number: int, size: int, block_size: int, seed: int) -> Batch:
        """Micro-batch ``number``: the same whenever it is drawn, so that a resumed run needs only its step."""
        return dataset.train_batch(number, size, block_size, seed)

    def __call__(self, output: Output, batch: Any, step: int) -> Learned:
        """batch: what :meth:`draw` gave, on the model's device."""
        raise NotImplementedError


def flat_logits(output: Output) -> Tensor:
    """(B, T, vocab_size) -> (B T, vocab_size), in the format a sum of exponentials wants: fp32 at least."""
    logits = output.logits.flatten(0, 1)
    return logits if logits.dtype == torch.float64 else logits.float()


def log_probabilities(output: Output) -> Tensor:
    """What the model predicts for every token, as logarithms: (B T, vocab_size)."""
    return flat_logits(output).log_softmax(-1)
