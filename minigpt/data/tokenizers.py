"""Tokenizers: text to token ids and back, by character or by byte, and the interface all kinds share.

A tokenizer is plain JSON (``to_json``, ``from_json``), so that a dataset and a checkpoint carry it whole; its ``hash``
tells whether two of them are the same. Byte-pair encoding is in ``tiktoken_bpe`` (published vocabularies) and ``bpe``
(trained on the text), Hugging Face's tokenizers are in ``hf_tokenizer``.
"""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from minigpt.errors import UserError, shown, unknown
from minigpt.schema import options, typed

KINDS = ("char", "byte", "tiktoken", "bpe", "huggingface")


class Tokenizer(abc.ABC):
    """Text to token ids in 0 .. vocab_size - 1 and back.

    eot_token: the token between documents, None where the kind has none. bos_token: the one a text begins with where
    its model was trained so. prefix: tokens that its model expects in front of every text. chat_template: Jinja text
    that spells a conversation, None where the model is no chat model. cut_anywhere: text may be encoded in pieces and
    the tokens joined. at_once: characters of a long text that are encoded together, where each takes much memory.
    """

    kind: ClassVar[str]
    cut_anywhere: ClassVar[bool] = False
    at_once: ClassVar[int] = 1 << 22
    vocab_size: int
    eot_token: int | None = None
    bos_token: int | None = None
    prefix: tuple[int, ...] = ()
    chat_template: str | None = None

    @abc.abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Text -> (n,) int64. Raises UserError for text the vocabulary cannot express."""

    def encode_marked(self, text: str) -> np.ndarray:
        """As ``encode``, but special tokens written out in the text are those tokens: for a rendered chat template."""
        return self.encode(text)

    def decode(self, ids: ArrayLike) -> str:
        """Token ids (any shape, read in order) -> text. Raises UserError for an id outside the vocabulary."""
        tokens = np.asarray(ids).reshape(-1).astype(np.int64)
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self.vocab_size):
            outside = tokens.max() if tokens.min() >= 0 else tokens.min()
            raise UserError(f"tokenizer: token {outside} is outside the {self.kind} vocabulary of {self.vocab_size}")
        return self._decode(tokens)

    @abc.abstractmethod
    def _decode(self, tokens: np.ndarray) -> str: ...

    @abc.abstractmethod
    def token_bytes(self) -> np.ndarray:
        """(vocab_size,) int64: bytes of UTF-8 text each token stands for; 0 for tokens that stand for no text."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Everything the tokenizer is, as plain JSON values; ``from_json`` is the way back."""

    @cached_property
    def hash(self) -> str:
        """sha256 of the canonical JSON: equal exactly when every text gets the same tokens for the same reason."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


class CharTokenizer(Tokenizer):
    """One token per character (Unicode code point) of a fixed list; token i is ``characters[i]``."""

    kind = "char"
    cut_anywhere = True

    def __init__(self, characters: str):
        points = _code_points(characters)
        if not points.size or np.unique(points).size != points.size:
            raise UserError("tokenizer.characters: expected at least one character, each only once")
        self.characters = characters
        self.vocab_size = len(points)
        self._points = points.astype("<u4")
        self._token_of = np.full(int(points.max()) + 2, -1, dtype=np.int64)  # the last entry answers for all beyond
        self._token_of[points] = np.arange(len(points))

    @classmethod
    def of_text(cls, text: str) -> CharTokenizer:
        """The tokenizer of the characters that occur in ``text``, in code point order."""
        return cls("".join(sorted(set(text))))

    def encode(self, text: str) -> np.ndarray:
        tokens = self._token_of[np.minimum(_code_points(text), len(self._token_of) - 1)]
        if tokens.size and tokens.min() < 0:
            raise self._outside(text, int(np.argmin(tokens)))
        return tokens

    def _outside(self, text: str, position: int) -> UserError:
        character, around = text[position], text[max(0, position - 12) : position + 12]
        return UserError(
            f"tokenizer: character {character!r} (U+{ord(character):04X}) at position {position}, in {around!r}, is "
            f"not one of the {self.vocab_size} characters of this vocabulary.\n"
            "  Use characters of the training text only, or prepare and train with tokenizer=byte, which knows all."
        )

    def _decode(self, tokens: np.ndarray) -> str:
        return self._points[tokens].tobytes().decode("utf-32-le", "surrogatepass")

    def token_bytes(self) -> np.ndarray:
        return np.array([len(c.encode("utf-8", "surrogatepass")) for c in self.characters], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "characters": self.characters}


class ByteTokenizer(Tokenizer):
    """One token per byte of UTF-8: 256 tokens, every text can be expressed."""

    kind = "byte"
    cut_anywhere = True
    vocab_size = 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int64)

    def _decode(self, tokens: np.ndarray) -> str:
        return tokens.astype(np.uint8).tobytes().decode("utf-8", "replace")  # sampled bytes may end inside a character

    def token_bytes(self) -> np.ndarray:
        return np.ones(256, dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}


def from_json(data: Any, path: str = "tokenizer") -> Tokenizer:
    """The tokenizer ``to_json`` described; UserError for any other JSON. path: where it stands, for messages."""
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if kind == "char":
        return CharTokenizer(_text(typed(CharState, data, path).characters, f"{path}.characters"))
    if kind == "byte":
        typed(ByteState, data, path)
        return ByteTokenizer()
    if kind == "tiktoken":
        from minigpt.data.tiktoken_bpe import from_state

        return from_state(data, path)
    if kind == "bpe":
        from minigpt.data import bpe

        return bpe.from_state(data, path)
    if kind == "huggingface":
        from minigpt.data import hf_tokenizer

        return hf_tokenizer.from_state(data, path)
    raise unknown(f"{path}.kind", kind, "unknown tokenizer", KINDS)


@options
class CharState:
    """The JSON of a CharTokenizer. characters: text, of any characters: a corpus may hold some that no option may."""

    kind: str
    characters: Any


@options
class ByteState:
    """The JSON of a ByteTokenizer."""

    kind: str


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{path}: expected text, got {shown(value)} ({type(value).__name__})")
    return value


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
