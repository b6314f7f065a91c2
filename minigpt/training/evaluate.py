"""Validation: the whole validation split, once, as plain cross-entropy. Any two runs on one dataset compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minigpt.data.dataset import Dataset
from minigpt.device import Precision


@dataclass(frozen=True)
class Validation:
    """loss: nats per token. bits_per_byte: the same in bits per byte of the text, comparable between tokenizers."""

    loss: float
    bits_per_byte: float


def validate(
    model: nn.Module,
    dataset: Dataset,
    batch_size: int,
    block_size: int,
    precision: Precision,
    give_up: Callable[[], bool] = lambda: False,
) -> Validation | None:
    """Cross-entropy of ``model`` over every target of the validation split, in eval mode; the model's mode is put back.

    give_up: asked before every batch; True ends the validation without a result, None.
    """
    was_training = model.training
    model.eval()
    nats = torch.zeros(
        (), dtype=torch.float32 if precision.device.type == "mps" else torch.float64, device=precision.device
    )
    tokens, text_bytes = 0, 0
    try:
        with torch.no_grad():
            for batch in dataset.val_batches(batch_size, block_size):
                if give_up():
                    return None
                inputs, targets = batch.inputs.to(precision.device), batch.targets.to(precision.device)
                with precision.autocast():
                    logits = model(inputs).logits
                nats += F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")
                tokens += targets.numel()
                text_bytes += dataset.target_bytes(batch.targets)
    finally:
        model.train(was_training)
    total = float(nats)
    return Validation(total / tokens, total / (math.log(2) * text_bytes))
