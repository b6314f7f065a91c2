"""Byte-pair encoding through tiktoken, with a vocabulary that is fetched once and then travels with the data.

tiktoken downloads its vocabularies and waits for the network without a limit. Here that is bounded, and the ranks are
part of the tokenizer's JSON: a prepared dataset and a checkpoint need neither the network nor a cache.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.data.network import ANSWER_SECONDS, within
from minigpt.data.rust import calmly
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError, unknown
from minigpt.files import read_text
from minigpt.schema import PositiveInt, options, typed

EOT = "<|endoftext|>"
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
LARGEST = 1 << 24  # tokens; eighty times the largest published vocabulary
PROBE = (
    "\n A probe's text,\t5 \u20ac; na\u00efve \u6f22\u5b57 \U0001f388\n\n  two  spaces ...and 1234567890 digits. \n "
)
"""What a tokenizer is tried with when it is loaded: it has to come back as it was."""
GPT2_FAMILY = ("gpt2", "r50k_base", "p50k_base")  # the encodings whose text is cut by GPT2_PATTERN


class TiktokenTokenizer(Tokenizer):
    """Byte-pair encoding: text is cut by a pattern, then bytes merge in order of rank.

    encoding: its name. ranks: bytes of a token -> its id, which is also its merge priority. special_tokens: text ->
    id; they stand between documents and for no bytes, and are never produced from text. Ids without a token may exist
    in between.
    """

    kind = "tiktoken"

    def __init__(self, encoding: str, pattern: str, ranks: Mapping[bytes, int], special_tokens: Mapping[str, int]):
        tiktoken = _tiktoken()
        missing = [b for b in range(256) if bytes([b]) not in ranks]
        if missing:
            raise UserError(
                f"tokenizer: the vocabulary '{encoding}' has no token for byte {missing[0]}; it is not a byte-pair one"
            )
        self.encoding = encoding
        self.pattern = pattern
        self.ranks = dict(ranks)
        self.special_tokens = dict(special_tokens)
        self.eot_token = self.special_tokens.get(EOT)
        self.vocab_size = max(max(self.ranks.values()), max(self.special_tokens.values(), default=0)) + 1
        if min(self.special_tokens.values(), default=0) < 0 or self.vocab_size > LARGEST:
            raise UserError(f"tokenizer: the vocabulary '{encoding}' has tokens outside 0 .. {LARGEST - 1}")
        self._text_of = {rank: token for token, rank in self.ranks.items()}
        self._text_of |= {token: text.encode() for text, token in self.special_tokens.items()}
        with calmly(f"tokenizer: the vocabulary '{encoding}'", quiet=True):
            self._codec = tiktoken.Encoding(
                encoding, pat_str=pattern, mergeable_ranks=self.ranks, special_tokens=self.special_tokens
            )
            back = self.decode(self.encode(PROBE))
        if back != PROBE:
            raise UserError(f"tokenizer: the vocabulary '{encoding}' is not usable: its pattern leaves out text")

    def encode(self, text: str) -> np.ndarray:
        with calmly(f"tokenizer: the vocabulary '{self.encoding}'"):
            return np.array(self._codec.encode_ordinary(text), dtype=np.int64)

    def encode_marked(self, text: str) -> np.ndarray:
        with calmly(f"tokenizer: the vocabulary '{self.encoding}'"):
            return np.array(self._codec.encode(text, allowed_special="all"), dtype=np.int64)

    def _decode(self, tokens: np.ndarray) -> str:
        return b"".join(self._text_of.get(token, b"") for token in tokens.tolist()).decode("utf-8", "replace")

    def token_bytes(self) -> np.ndarray:
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, rank in self.ranks.items():
            lengths[rank] = len(token)
        return lengths

    def to_json(self) -> dict[str, Any]:
        ranks = _rank_lines(self.ranks)
        return {
            "kind": self.kind,
            "encoding": self.encoding,
            "vocab_size": self.vocab_size,
            "pattern": self.pattern,
            "special_tokens": self.special_tokens,
            "ranks": ranks,
            "ranks_sha256": hashlib.sha256(ranks.encode()).hexdigest(),
        }


@options
class TiktokenState:
    """The JSON of a TiktokenTokenizer. ranks: the content of a .tiktoken file, one "base64 rank" per line."""

    kind: str
    encoding: str
    vocab_size: PositiveInt
    pattern: str
    special_tokens: dict[str, int]
    ranks: str
    ranks_sha256: str


def load_encoding(encoding: str, seconds: float = ANSWER_SECONDS) -> TiktokenTokenizer:
    """The tokenizer of one of tiktoken's encodings by name, or of a local ranks file (``path/to/r50k_base.tiktoken``).

    By name, the vocabulary comes from TIKTOKEN_CACHE_DIR or the network; without either a UserError says so after at
    most ``seconds``.
    """
    if is_path(encoding):
        return _from_file(Path(encoding).expanduser())
    tiktoken = _tiktoken()
    names = tiktoken.list_encoding_names()
    if encoding not in names:
        raise unknown("encoding", encoding, "unknown tiktoken encoding", names)
    try:
        codec = within(seconds, lambda: tiktoken.get_encoding(encoding))
    except Exception as error:
        raise UserError(
            f"encoding: the vocabulary '{encoding}' is not in TIKTOKEN_CACHE_DIR "
            f"({os.environ.get('TIKTOKEN_CACHE_DIR') or 'not set'}) and could not be downloaded "
            f"({type(error).__name__}).\n"
            "  Set TIKTOKEN_CACHE_DIR to a cache filled on a machine with network, or give a ranks file: "
            "encoding=path/to/r50k_base.tiktoken; or use tokenizer=byte."
        ) from None
    return TiktokenTokenizer(encoding, codec._pat_str, codec._mergeable_ranks, codec._special_tokens)


def from_state(data: Any, path: str, kind: type[TiktokenTokenizer] = TiktokenTokenizer) -> TiktokenTokenizer:
    """The tokenizer its JSON describes; UserError when the ranks are not the ones the JSON was written with."""
    state = typed(TiktokenState, data, path)
    if hashlib.sha256(state.ranks.encode()).hexdigest() != state.ranks_sha256:
        raise UserError(f"{path}.ranks: damaged, they do not match ranks_sha256")
    ranks = _read_ranks(state.ranks.encode(), f"{path}.ranks")
    tokenizer = kind(state.encoding, state.pattern, ranks, state.special_tokens)
    if tokenizer.vocab_size != state.vocab_size:
        raise UserError(f"{path}.vocab_size: {state.vocab_size} expected, but the ranks make {tokenizer.vocab_size}")
    return tokenizer


def _tiktoken() -> Any:
    try:
        import tiktoken
    except ImportError:
        raise UserError("tokenizer=tiktoken needs the package tiktoken: pip install tiktoken") from None
    return tiktoken


def is_path(encoding: str) -> bool:
    """Whether ``encoding`` is a ranks file rather than a name."""
    return encoding.endswith(".tiktoken") or os.sep in encoding or Path(encoding).is_file()


def _from_file(path: Path) -> TiktokenTokenizer:
    """A .tiktoken file with GPT-2's pattern; ``<|endoftext|>`` gets the first id that no rank uses, as in GPT-2."""
    if path.stem not in GPT2_FAMILY and path.stem in _tiktoken().list_encoding_names():
        raise UserError(
            f"encoding: {path} is cut by another pattern than GPT-2's, which the file does not hold.\n"
            f"  Use encoding={path.stem} with TIKTOKEN_CACHE_DIR instead."
        )
    try:
        content = read_text(path, way_out=" Expected a .tiktoken ranks file").encode()
    except UserError as error:
        raise UserError(f"encoding: {error}") from None
    ranks = _read_ranks(content, str(path))
    used = set(ranks.values())
    return TiktokenTokenizer(
        path.stem, GPT2_PATTERN, ranks, {EOT: next(i for i in range(len(used) + 1) if i not in used)}
    )


def _rank_lines(ranks: Mapping[bytes, int]) -> str:
    by_rank = sorted(ranks.items(), key=lambda item: item[1])
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in by_rank)


def _read_ranks(content: bytes, path: str) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise UserError(f"{path}: line {number} is not 'base64 rank', the form of a .tiktoken file") from None
    if not ranks or len(set(ranks.values())) != len(ranks) or min(ranks.values()) < 0:
        raise UserError(f"{path}: expected ranks, each only once, from 0")
    return ranks
