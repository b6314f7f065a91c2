"""Sampling: ``minigpt sample``, ``python sample.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.generation.config import SampleConfig


@entry("sample", SampleConfig)
def main(config: SampleConfig) -> None:
    """Continue a prompt with a trained model.

    {this} checkpoint=out/<run> start="The "
    {this} checkpoint=out/<run> start=FILE:prompt.txt temperature=0 num_samples=3
    {this} checkpoint=out/<run> lm_eval_tasks=[hellaswag,arc_easy]
    """
    if config.lm_eval_tasks:
        from minigpt.evaluation.config import of_sampling
        from minigpt.training.scoring import score_checkpoints

        return score_checkpoints(of_sampling(config))
    from minigpt.generation.sample import sample

    sample(config)
