"""What a task asks for beside its own model: checked before anything is written, then loaded and frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from minigpt.checkpoint_folder import content_hash, find_checkpoint, read_json
from minigpt.data.dataset import Dataset
from minigpt.device import Precision
from minigpt.errors import UserError
from minigpt.model import GPT, Output, read_spec
from minigpt.model.checkpoint import TOKENIZER, load_checkpoint
from minigpt.training.record import RunRecord
from minigpt.training.tasks.base import Task


class Frozen:
    """A model that is asked and never trained: tokens (B, T) -> Output, without gradients, in the run's number format.

    path: a run's folder or a checkpoint's.
    """

    def __init__(self, path: str, precision: Precision, plugins: Sequence[str] = ()):
        self.model = load_checkpoint(path, precision.device, plugins).model.requires_grad_(False)
        self.precision = precision

    def __call__(self, tokens: Tensor) -> Output:
        with torch.no_grad(), self.precision.autocast():
            return self.model(tokens)


def check_task(task: Task, dataset: Dataset, plan: GPT) -> None:
    """Raise UserError unless dataset, model and further models have what the task declares it needs."""
    name = f"task={task.name}"  # type: ignore[attr-defined]
    if task.reads is not dataset.gives:
        raise UserError(
            f"{name}: reads {task.reads.__name__}, and dataset '{dataset.name}' gives {dataset.gives.__name__}. "
            f"Choose another dataset, or another task"
        )
    try:
        plan.return_also(task.needs)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    for key, path in task.checkpoints.items():
        try:
            _check_companion(path, dataset, plan)
        except UserError as error:
            raise UserError(f"{name}: {key}: {error}") from None


def content_of(task: Task) -> dict[str, str]:
    """Checkpoint -> hash of its content, of the further models of a task."""
    folders = map(find_checkpoint, task.checkpoints.values())
    return {str(folder): content_hash(folder) for folder in folders}


def refuse_other_companions(former: RunRecord, task: Task) -> None:
    """Raise UserError when a run would go on with other further models than it was trained with so far."""
    for folder, digest in content_of(task).items():
        if former.companions.get(folder, digest) != digest:
            raise UserError(
                f"{former.folder}: {folder}, which its task asks, is another model now. Put it back, or start a new run"
            )


def refuse_other_tokenizer(folder: Path, dataset: Dataset) -> None:
    """Raise UserError when a checkpoint's tokens mean other texts than the dataset's."""
    stored, here = read_json(folder, TOKENIZER), dataset.tokenizer.to_json()
    if stored != here:
        kinds = [str(each.get("kind")) for each in (stored, here)]
        raise UserError(
            f"{folder}: its tokenizer ({kinds[0]}) is not that of dataset '{dataset.name}' ({kinds[1]}), so its tokens "
            f"mean other texts. Prepare the text anew: python data/prepare.py ... tokenizer_of={folder}"
        )


def _check_companion(path: str, dataset: Dataset, plan: GPT) -> None:
    folder = find_checkpoint(path)
    spec, here = read_spec(folder), plan.spec
    refuse_other_tokenizer(folder, dataset)
    if spec.block_size < here.block_size or spec.vocab_size != here.vocab_size:
        raise UserError(
            f"{folder}: context {spec.block_size} and vocabulary {spec.vocab_size}; this model, with {here.block_size} "
            f"and {here.vocab_size}, needs at least that context and the same vocabulary"
        )
