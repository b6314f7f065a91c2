"""Evaluation: ``minigpt evaluate``, and the ``lm_eval_tasks`` of ``sample.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.evaluation.config import EvaluationConfig


@entry("evaluate", EvaluationConfig, first="checkpoint")
def main(config: EvaluationConfig) -> None:
    """Score trained models on tasks of lm-evaluation-harness, and keep the scores in their records.

    {this} out/<run>                                     our own suite
    {this} out/<run> tasks=[hellaswag,arc_easy]          public tasks
    {this} out/<run> tasks=[mine] include_path=my_tasks  tasks from files
    {this} out/<study>                                   every run of a folder, in one table
    python -m minigpt.lm_eval --model minigpt --model_args checkpoint=out/<run> --tasks ...   the harness's own words
    """
    from minigpt.training.scoring import score_checkpoints

    score_checkpoints(config)
