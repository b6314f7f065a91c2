"""Sampling: ``minigpt sample``, ``python sample.py``."""

from __future__ import annotations

from minigpt.cli.classic import in_our_words
from minigpt.cli.entry import entry
from minigpt.generation.config import SampleConfig


@entry("sample", SampleConfig, first="checkpoint", reworded=in_our_words)
def main(config: SampleConfig) -> None:
    """Continue a prompt with a trained model.

    {this} checkpoint=out/<run> start="The "
    {this} checkpoint=out/<run> prompts=FILE:prompts.txt num_samples=3 format=jsonl
    {this} checkpoint=out/<run> interactive=true colorize_output=probability
    {this} checkpoint=out/<run> colorize_text=VAL:data/pydocs colorize_output=entropy
    {this} checkpoint=out/<run> lm_eval_tasks=[hellaswag,arc_easy]

    The flags of nanoGPT's sample.py work, too: --out_dir=out/<run> --start "The " --num_samples=3 --top_k 20 ...
    """
    if config.lm_eval_tasks:
        from minigpt.evaluation.config import of_sampling
        from minigpt.training.scoring import score_checkpoints

        return score_checkpoints(of_sampling(config))
    from minigpt.generation.sample import sample

    sample(config)
