"""What can be asked of a preparation: the keys of ``data/prepare.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from minigpt.data.bpe import SMALLEST
from minigpt.data.cleaning.steps import ReadSteps, Steps
from minigpt.data.recipe import KINDS, recipe_names
from minigpt.errors import UserError, unknown
from minigpt.schema import Limit, Range, options

PREPARE = "python data/prepare.py"


@options
class PrepareConfig:
    """What to prepare. Either a recipe of this project (``dataset``), or text of one's own (``source`` and ``name``).

    dataset: a recipe, data/<dataset>/dataset.py. source: a file, folder or glob of text, .jsonl or .parquet, .gz and
    .zst unpacked; hf:<name or folder>; or .bin files of tokens; with ``dataset`` it replaces what the recipe would
    fetch. text_key: the field or column that holds the text; null: text. name: what text of one's own is called.
    tokenizer: char, byte, tiktoken, bpe (learned from the text), or a tokenizer.json, Hugging Face's or minigpt's, or
    its folder; null: the recipe's, else char. encoding: of tokenizer=tiktoken, a name or a .tiktoken file. vocab_size:
    of tokenizer=bpe; null: 4096. tokenizer_of: in place of these, a prepared dataset's folder, a run's or a
    checkpoint's, whose tokenizer this text gets: so that its weights can read it. val_fraction: share of the
    characters, from the end, that validates; null: the recipe's, else 0.1. folder: where datasets are written.
    workers: processes that clean and encode, whatever is written is the same; null: one a core, for long texts. clean:
    steps that documents go through first. plugins: modules that register such steps. overwrite: replace a prepared
    dataset that differs.
    """

    dataset: str | None = None
    source: str | None = None
    text_key: str | None = None
    name: str | None = None
    tokenizer: str | None = None
    encoding: str | None = None
    vocab_size: Annotated[int, Range(ge=SMALLEST), Limit(1 << 20)] | None = None
    tokenizer_of: str | None = None
    val_fraction: Annotated[float, Range(gt=0, lt=1)] | None = None
    folder: str = "data"
    workers: Annotated[int, Range(ge=1, le=256)] | None = None
    clean: Annotated[Steps, ReadSteps()] = Steps({})
    plugins: list[str] = ()  # type: ignore[assignment]
    overwrite: bool = False

    def __post_init__(self):
        self.clean.build()
        if self.plugins and not self.clean:
            raise UserError("plugins: bring steps for the cleaning; choose one with clean=<file>, or leave them out")
        if self.dataset and self.name:
            raise UserError("dataset and name: a recipe's dataset has its recipe's name; leave one of the two out")
        if not self.dataset and not (self.source and self.name):
            raise UserError(
                f"expected {PREPARE} dataset=<name>, or source=<file, folder or glob> name=<new>\n"
                f"  datasets with a recipe: {', '.join(recipe_names())}"
            )
        if self.tokenizer_of and (self.tokenizer or self.encoding):
            raise UserError("tokenizer_of: brings tokenizer and encoding along; leave those two out")
        if self.tokenizer and self.tokenizer not in KINDS and not _is_file(self.tokenizer):
            raise unknown("tokenizer", self.tokenizer, "neither a tokenizer.json nor a kind of tokenizer", KINDS)
        if self.encoding and self.tokenizer not in (None, "tiktoken"):
            raise UserError("encoding: is for tokenizer=tiktoken; leave it out")
        if self.text_key and not self.source:
            raise UserError("text_key: is for a source with fields or columns; leave it out")
        if self.vocab_size and self.tokenizer != "bpe":
            raise UserError("vocab_size: is for tokenizer=bpe, which is trained; other vocabularies have their size")
        if not self.dataset and self.name in recipe_names():
            raise UserError(
                f"name: '{self.name}' has a recipe of its own; use dataset={self.name} source=..., or another name"
            )


def _is_file(tokenizer: str) -> bool:
    return tokenizer.endswith(".json") or Path(tokenizer).expanduser().exists()
