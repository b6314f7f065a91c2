"""What a person chooses when evaluating: the schema of conf/evaluate.yaml. Imports no torch."""

from __future__ import annotations

import dataclasses

from minigpt.config import TaskOptions
from minigpt.errors import UserError
from minigpt.generation.config import SampleConfig
from minigpt.schema import options, typed


@options
class EvaluationConfig(TaskOptions):
    """A call of ``minigpt evaluate``.

    checkpoint: a run's folder or a checkpoint's, or a folder of runs, of which every one with a checkpoint is
    evaluated. tasks: names; builtin is our own suite. include_path: a folder with task files of your own. num_fewshot:
    examples before each question (None: what the task says). limit: only the first so many questions of each task.
    batch_size: rows at a time, or auto. chat_template: put questions into the tokenizer's template. record: keep the
    scores in the run's record, where reports and searches find them. json: print JSON, for programs. device: auto, cpu,
    cuda, mps. plugins: modules that register the model's parts.
    """

    checkpoint: str | None = None
    record: bool = True
    json: bool = False
    device: str = "auto"
    plugins: list[str] = ()  # type: ignore[assignment]

    def __post_init__(self):
        super().__post_init__()
        if self.checkpoint is None:
            raise UserError("checkpoint: which one? Give a run's folder, such as checkpoint=out/<run>")
        if not self.tasks:
            raise UserError("tasks: on what? Name some, such as tasks=[builtin]")
        if self.record and self.limit is not None:
            raise UserError(
                "limit: a score of a part of the questions does not go into a run's record. Add record=false"
            )


def task_options(config: TaskOptions) -> TaskOptions:
    """The part of a configuration that says what a model is evaluated on."""
    return TaskOptions(**{field.name: getattr(config, field.name) for field in dataclasses.fields(TaskOptions)})


def of_sampling(config: SampleConfig) -> EvaluationConfig:
    """What ``sample.py ... lm_eval_tasks=[...]`` asks for."""
    heeded = {"tasks": config.lm_eval_tasks, "device": config.device, "plugins": config.plugins}
    return typed(EvaluationConfig, heeded | {"checkpoint": config.checkpoint})
