"""Prepare a dataset for training.

usage:
  python data/prepare.py dataset=pydocs                              a recipe of this project, data/<dataset>/dataset.py
  python data/prepare.py source=<file, folder or glob> name=<new>    text of your own

keys:
  tokenizer=char|byte|tiktoken   what text becomes (char, or what the recipe says)
  encoding=gpt2                  of tokenizer=tiktoken: one of its encodings, or a local .tiktoken file
  val_fraction=0.1               share of the characters, from the end, kept for validation
  folder=data                    where <folder>/<name>/ is written
  overwrite=true                 replace a prepared dataset that differs
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from minigpt.data import command_line

    sys.exit(command_line.main(sys.argv[1:], __doc__))
