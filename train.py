"""Train a GPT: ``python train.py [key=value ...]``; ``--help`` shows what there is to choose."""

from minigpt.cli.train import main

if __name__ == "__main__":
    main()
