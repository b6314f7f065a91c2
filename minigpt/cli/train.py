"""Training: ``minigpt train``, ``python train.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry, given
from minigpt.config import TrainConfig

EXIT_CODES = {"completed": 0, "diverged": 3, "out_of_memory": 4, "interrupted": 130}


@entry("train", TrainConfig)
def main(run: TrainConfig) -> int:
    """Train a GPT whose every part is chosen by name.

    {this}                                                   the built-in text, a small modern GPT
    {this} attention=gqa softmax=consmax optimizer.lr=1e-3   parts and their options
    {this} -m softmax=softmax,consmax seed=0,1,2             a sweep; explorations=<name> is one from a file
    {this} resume=out/<run>                                  go on with a run
    {this} init_from=out/<run> data=mine                     a new run from the weights of another
    minigpt components softmax    what a name means, its options, its paper
    """
    from minigpt.training.display import summary
    from minigpt.training.fit import fit

    record = fit(run, overrides=given())
    print(summary(record))
    return EXIT_CODES[record.status]
