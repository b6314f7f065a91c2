"""Byte-pair encoding trained on the text at hand: the Rust trainer of Hugging Face's ``tokenizers`` learns the merges.

What it learned is kept and applied as a ranks vocabulary (``tiktoken_bpe``), which encodes several times faster than
the library that trained it. The first 256 tokens are the bytes, so every text can be expressed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from minigpt.data import byte_alphabet, tiktoken_bpe
from minigpt.data.rust import calmly
from minigpt.data.tiktoken_bpe import EOT, GPT2_PATTERN, TiktokenTokenizer
from minigpt.errors import UserError

VOCAB_SIZE = 4096
SMALLEST = 257
"""Tokens of the smallest vocabulary: the bytes and the end of a text."""


class BpeTokenizer(TiktokenTokenizer):
    """A byte-pair vocabulary of one's own: bytes, merges in the order they were learned, ``<|endoftext|>`` last."""

    kind = "bpe"


def train_bpe(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> BpeTokenizer:
    """Learn a vocabulary of at most ``vocab_size`` tokens; fewer where the texts have no further pair to merge.

    The same texts give the same vocabulary. Raises UserError for a size that leaves no room for bytes and
    ``<|endoftext|>``.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    if vocab_size < SMALLEST:
        raise UserError(f"vocab_size: {vocab_size} is out of range, expected >= {SMALLEST}: 256 bytes and {EOT}")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    learner = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(hf_pattern(GPT2_PATTERN)), behavior="removed", invert=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    with calmly("tokenizer=bpe"):
        learner.train_from_iterator(texts, trainer=trainer)
        learned = json.loads(learner.to_str())["model"]["vocab"]
    ranks = {}
    for token, number in learned.items():
        content = byte_alphabet.to_bytes(token)
        assert content is not None  # the trainer joins characters of that alphabet
        ranks[content] = content[0] if len(content) == 1 else number
    return BpeTokenizer("bpe", GPT2_PATTERN, ranks, {EOT: len(ranks)})


def from_state(data: Any, path: str) -> TiktokenTokenizer:
    """The tokenizer its JSON describes."""
    return tiktoken_bpe.from_state(data, path, BpeTokenizer)


def hf_pattern(pattern: str) -> str:
    """A pattern of tiktoken in the words of ``tokenizers``' engine, where possessive counts mean something else.

    Giving characters back never changes what these patterns match; ``$`` means the end of a line there.
    """
    return re.sub(r"((?<!\\)[+*?]|\{[\d,]+\})\+", r"\1", pattern).replace(r"\s+$", r"\s+\z")
