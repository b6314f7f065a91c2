"""Train a GPT: ``python train.py [key=value ...]``; ``--help`` shows what there is to choose."""

from __future__ import annotations

from minigpt import cli
from minigpt.config import TrainConfig


@cli.entry("train", TrainConfig)
def main(run: TrainConfig) -> int:
    from minigpt.training.display import summary
    from minigpt.training.fit import fit

    record = fit(run, overrides=cli.given())
    print(summary(record))
    return EXIT_CODES[record.status]


EXIT_CODES = {"completed": 0, "diverged": 3, "out_of_memory": 4, "interrupted": 130}

if __name__ == "__main__":
    main()
