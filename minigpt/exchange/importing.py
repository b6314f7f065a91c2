"""``minigpt import``: another project's model as a checkpoint of ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from minigpt.data.hf_files import read_tokenizer
from minigpt.data.pickles import read_nanogpt_meta
from minigpt.data.tiktoken_bpe import load_encoding
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.exchange.config import ImportConfig
from minigpt.exchange.opened import READS, Opened, open_foreign
from minigpt.exchange.tensor_files import write_safetensors
from minigpt.model.checkpoint import save_checkpoint
from minigpt.screen import say


def import_(config: ImportConfig) -> None:
    """Read ``source``, write ``out``, and say what it is."""
    source, out = str(config.source), Path(str(config.out))
    opened = open_foreign(source, block_size=config.block_size, ignore=config.ignore)
    if opened is None:
        what = "no model of another project" if Path(source).exists() else "is not there"
        raise UserError(f"source: {source}: {what}. Expected {READS}")
    if config.tokenizer is not None:
        opened = dataclasses.replace(opened, tokenizer=lambda: tokenizer_at(str(config.tokenizer)))
    import_model(opened, out)
    spec = opened.spec
    say(
        f"{out}: {opened.origin}, {opened.plan.parameter_count():,} parameters, {spec.n_layer} layers of "
        f"{spec.d_model}, context {spec.block_size}, vocabulary {spec.vocab_size}"
    )


def tokenizer_at(place: str) -> Tokenizer:
    """The tokenizer of a file, or of a published name; raises UserError for what is none."""
    path = Path(place)
    if path.suffix == ".pkl" and path.is_file():
        return read_nanogpt_meta(path)
    if path.exists() and path.suffix != ".tiktoken":
        return read_tokenizer(path)
    try:
        return load_encoding(place)
    except UserError as error:
        raise UserError(f"tokenizer: {error}") from None


def import_model(opened: Opened, out: Path) -> None:
    """Write a checkpoint of ours, tensor by tensor and bit by bit, into a folder that is not there yet."""
    if out.exists() or out.is_symlink():
        raise UserError(f"out: {out} is there already and is not overwritten. Choose another name")
    tokenizer = opened.checked_tokenizer()
    save_checkpoint(
        out,
        opened.plan,
        tokenizer=tokenizer.to_json(),
        meta={**opened.meta, "family": opened.origin, "source": opened.place.name},
        weights=lambda file: write_safetensors(file, opened.tensors.forms(), opened.tensors.read),
    )
