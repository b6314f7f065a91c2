"""Whether what is asked for can be trained: everything that shapes and headers of files say, before anything starts."""

from __future__ import annotations

from minigpt import registry
from minigpt.config import TrainConfig
from minigpt.data.dataset import Dataset, open_data
from minigpt.data.mixing import Schedule
from minigpt.errors import UserError
from minigpt.model import GPT, resolve
from minigpt.model.gpt import refuse_without_weights
from minigpt.training.budget import Budget
from minigpt.training.companions import check_task


def dataset_of(run: TrainConfig) -> Dataset:
    """What the run reads, checked. Raises UserError for data that are not there, not whole or do not fit together."""
    return open_data(run.data, block_size=run.model.block_size, schedule=schedule_of(run))


def schedule_of(run: TrainConfig) -> Schedule | None:
    """How the run mixes datasets; None where it has one. Raises UserError for a mix that does not fit its length."""
    if not run.data.stages:
        return None
    steps = Budget.of(run.training, run.model.block_size).step_limit()
    return Schedule.of(run.data.stages, steps, run.training.gradient_accumulation, run.training.batch_size)


def plan_of(run: TrainConfig, dataset: Dataset) -> GPT:
    """The run's model, without memory. Raises UserError when its parts do not fit together, when nothing of it is to be
    trained, when schedule or optimizer refuse what they are to do, or when the task needs what model, dataset or
    further models do not have."""
    plan = GPT.on_meta(resolve(run, dataset.vocab_size))
    if run.init_from is None:
        refuse_without_weights(plan.spec)
    if not plan.trainable_count():
        raise UserError(f"nothing to train: all {plan.parameter_count():,} parameters of this model are frozen")
    registry.build(run.schedule)
    parameters = {n: p for n, p in plan.named_parameters() if p.requires_grad}
    registry.build(run.optimizer, parameters, plan.roles()).scale_rates(parameters, plan.rates())
    check_task(registry.build(run.task), dataset, plan)
    return plan
