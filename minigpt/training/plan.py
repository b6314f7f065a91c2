"""Whether what is asked for can be trained: everything that shapes and headers of files say, before anything starts."""

from __future__ import annotations

from minigpt import registry
from minigpt.config import TrainConfig
from minigpt.data.dataset import Dataset
from minigpt.errors import UserError
from minigpt.model import GPT, resolve
from minigpt.model.gpt import refuse_without_weights
from minigpt.training.companions import check_task


def plan_of(run: TrainConfig, dataset: Dataset) -> GPT:
    """The run's model, without memory. Raises UserError when its parts do not fit together, when nothing of it is to be
    trained, or when the task needs what model, dataset or further models do not have."""
    plan = GPT.on_meta(resolve(run, dataset.vocab_size))
    if run.init_from is None:
        refuse_without_weights(plan.spec)
    if not plan.trainable_count():
        raise UserError(f"nothing to train: all {plan.parameter_count():,} parameters of this model are frozen")
    check_task(registry.build(run.task), dataset, plan)
    return plan
