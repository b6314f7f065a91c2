"""Continue a prompt with a trained model: python sample.py checkpoint=out/<run> start="The "."""

import sys

from minigpt import cli
from minigpt.generation.config import SampleConfig, verbatim


@cli.entry("sample", SampleConfig)
def main(config: SampleConfig) -> None:
    from minigpt.generation.sample import sample

    sample(config)


if __name__ == "__main__":
    sys.argv[1:] = verbatim(sys.argv[1:])
    main()
