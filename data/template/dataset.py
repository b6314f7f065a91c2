"""template: how a dataset is made. Copy it with data/create_new_dataset.sh <name>, then change documents().

As it stands it makes a small text of sums, which can be prepared and trained on:
python data/prepare.py dataset=template
"""

from minigpt.data.recipe import Recipe


def documents() -> list[str]:
    """The texts of the dataset, one per document, always in the same order.

    Read files beside this one (Path(__file__).parent), fetch them with minigpt.data.network.download, or make them up.
    """
    return ["".join(f"{a} + {b} = {a + b}\n" for a in range(100) for b in range(100))]


# Also: tokenizer="byte", or tokenizer="tiktoken" with encoding="gpt2"; val_fraction=0.05. The command line wins.
recipe = Recipe(documents=documents)
