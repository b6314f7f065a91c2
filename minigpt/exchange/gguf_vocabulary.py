"""A tokenizer in the words of GGUF, where llama.cpp cuts text as it does; else none, and it is run on token ids.

Byte pairs are GGUF's ``gpt2``: a pattern by name, and merges, which follow from the ranks. Single bytes, and characters
of one byte, are ``rwkv``: the longest token that fits, without tokens for a beginning or an end. Its reader never comes
back from a text with half of a character of several bytes, so that such vocabularies go without text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from minigpt.data import byte_alphabet
from minigpt.data.hf_files import merge_pairs
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.data.tiktoken_bpe import GPT2_PATTERN, TiktokenTokenizer
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""GGUF's types of tokens."""

_CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"""
    r"""|\s+(?!\S)|\s"""
)
_PATTERNS = {GPT2_PATTERN: "gpt-2", _CL100K: "llama-bpe"}
"""Patterns of tiktoken -> what llama.cpp calls the same one."""
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REGEXES = {_WORDS % r"\p{N}{1,3}": "llama-bpe", _WORDS % r"\p{N}": "qwen2"}
"""The same of tokenizer.json."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """model: GGUF's kind of tokenizer, "none" without one. note: what a person should know. pre: its name of the
    pattern. tokens: their texts, in the kind's spelling. types: of each. merges: byte pairs, the first merged first.
    eot, bos: the tokens that end and begin a text. begins: whether every text begins with bos."""

    model: str
    size: int
    note: str = ""
    pre: str = ""
    tokens: Sequence[str] = ()
    types: Sequence[int] = ()
    merges: Sequence[str] = ()
    eot: int | None = None
    bos: int | None = None
    begins: bool = False


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """What GGUF says of a tokenizer: only what makes llama.cpp find the same tokens in a text."""
    if isinstance(tokenizer, ByteTokenizer):
        return _longest_match([bytes([value]) for value in range(256)])
    if isinstance(tokenizer, CharTokenizer) and tokenizer.characters.isascii():
        return _longest_match([character.encode() for character in tokenizer.characters])
    if isinstance(tokenizer, TiktokenTokenizer):
        return _byte_pairs(tokenizer)
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return _of_huggingface(tokenizer)
    reason = "its characters have several bytes" if isinstance(tokenizer, CharTokenizer) else "it cuts text otherwise"
    return _none(tokenizer, reason)


def _none(tokenizer: Tokenizer, reason: str) -> Vocabulary:
    note = (
        f"llama.cpp cannot read text with this {tokenizer.kind} vocabulary ({reason}): give it token ids, and decode "
        f"them by the tokenizer in the file's key minigpt.tokenizer"
    )
    return Vocabulary("none", tokenizer.vocab_size, note)


def _longest_match(tokens: Sequence[bytes]) -> Vocabulary:
    return Vocabulary("rwkv", len(tokens), tokens=[_escaped(t) for t in tokens], types=[NORMAL] * len(tokens))


def _escaped(token: bytes) -> str:
    """Printable ASCII as it is, any other byte as ``\\x0a``."""
    return "".join(chr(b) if 32 <= b < 127 and b != 0x5C else f"\\x{b:02x}" for b in token)


def _byte_pairs(tokenizer: TiktokenTokenizer) -> Vocabulary:
    texts = {rank: byte_alphabet.to_characters(token) for token, rank in tokenizer.ranks.items()}
    special = {token: text for text, token in tokenizer.special_tokens.items()}
    pairs = [
        (byte_alphabet.to_characters(left), byte_alphabet.to_characters(right))
        for left, right in merge_pairs(tokenizer.ranks)
    ]
    return _gpt2(tokenizer, _PATTERNS.get(tokenizer.pattern), texts, special, {}, pairs)


def _of_huggingface(tokenizer: HuggingFaceTokenizer) -> Vocabulary:
    model = tokenizer.content["model"]
    pre = _cut(tokenizer.content) if model.get("type", "BPE") == "BPE" else None
    texts = {token: text for text, token in model["vocab"].items()} if pre else {}
    added = tokenizer.content.get("added_tokens") or []
    special = {each["id"]: each["content"] for each in added if each.get("special") is True}
    plain = {each["id"]: each["content"] for each in added if each.get("special") is not True}
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges") or []]
    return _gpt2(tokenizer, pre, texts, special, plain, [(left, right) for left, right in pairs])


def _cut(content: Mapping[str, Any]) -> str | None:
    """What llama.cpp calls the way a byte-level tokenizer.json cuts text; None where it has no such."""
    step = content.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", [step])
    whole = content["model"].get("ignore_merges") is True  # a word that is a token is that token
    level = steps[-1]
    if content.get("normalizer") or level.get("type") != "ByteLevel" or level.get("add_prefix_space"):
        return None
    if len(steps) == 1:
        return "gpt-2" if level.get("use_regex", True) and not whole else None
    if len(steps) != 2 or steps[0].get("type") != "Split" or level.get("use_regex", True):
        return None
    pre = _REGEXES.get(str((steps[0].get("pattern") or {}).get("Regex")))
    return pre if whole == (pre == "llama-bpe") else None


def _gpt2(
    tokenizer: Tokenizer,
    pre: str | None,
    texts: Mapping[int, str],
    special: Mapping[int, str],
    plain: Mapping[int, str],
    pairs: Sequence[tuple[str, str]],
) -> Vocabulary:
    """texts: of the vocabulary. special, plain: of tokens added to it, which are never, or always, found in a text."""
    if pre is None:
        return _none(tokenizer, "it has no pattern that cuts text like this one's")
    if tokenizer.eot_token is None:
        return _none(tokenizer, "it takes token 11 for the end of a text where no token ends one")
    tokens = [f"[unused {i}]" for i in range(tokenizer.vocab_size)]
    types = [UNUSED] * tokenizer.vocab_size
    for kind, some in ((NORMAL, texts), (USER_DEFINED, plain), (CONTROL, special)):
        for token, text in some.items():
            tokens[token], types[token] = text, kind
    return Vocabulary(
        "gpt2",
        tokenizer.vocab_size,
        pre=pre,
        tokens=tokens,
        types=types,
        merges=[f"{left} {right}" for left, right in pairs],
        eot=tokenizer.eot_token,
        bos=tokenizer.bos_token,
        begins=tokenizer.bos_token is not None and tokenizer.prefix == (tokenizer.bos_token,),
    )
