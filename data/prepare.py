"""Prepare a dataset for training: ``python data/prepare.py dataset=pydocs``."""

from minigpt.cli.prepare import main

if __name__ == "__main__":
    main()
