"""Tokens that another tool made: ``.bin`` files of nanoGPT's kind, or of llm.c's with a header, as a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minigpt.data.dataset_folder import dtype_for
from minigpt.data.encoding import Cut, Encoded
from minigpt.data.source import find_files
from minigpt.data.survey import Survey
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.files import plainly, sha256_of, sha256_of_text

BLOCK = 1 << 21  # tokens read at once
HEADER = 1024  # bytes of llm.c's: a magic number, a version, how many tokens
MAGIC = {20240520: "uint16", 20240801: "uint32"}


@dataclass(frozen=True)
class TokenSource:
    """Files of tokens in order. given: whether they are a train and a val split already."""

    name: str
    files: tuple[Path, ...]
    given: bool

    def survey(self, tokenizer: Tokenizer) -> Survey:
        """How much there is, in tokens in place of characters. Raises UserError for tokens outside the vocabulary."""
        found = Survey(documents=1)
        hashes = []
        for file in self.files:
            for tokens in _blocks(file, tokenizer):
                if tokens.max() >= tokenizer.vocab_size:
                    raise UserError(
                        f"source: {file}: token {tokens.max()} is outside the vocabulary of {tokenizer.vocab_size}: it "
                        f"was made with another tokenizer than '{tokenizer.kind}'"
                    )
                found.characters += len(tokens)
            hashes.append(sha256_of(file))
        found.sha256 = sha256_of_text(" ".join(hashes))
        return found

    def encoded(self, tokenizer: Tokenizer, cut: Cut) -> Iterator[Encoded]:
        """The tokens in batches. A document ends after each end-of-text token; the last split begins after one, if it
        is near enough to the cut."""
        place, dtype, bytes_of = 0, dtype_for(tokenizer.vocab_size), tokenizer.token_bytes()
        for number, file in enumerate(self.files):
            for tokens in _blocks(file, tokenizer):
                train = (
                    len(tokens) * (number == 0) if self.given else _train_of(tokens, place, cut, tokenizer.eot_token)
                )
                place += len(tokens)
                for split, part in ((0, tokens[:train]), (1, tokens[train:])):
                    if len(part):
                        yield _encoded(split, part.astype(dtype), tokenizer.eot_token, bytes_of)


def token_source(source: str, val_fraction: float | None) -> TokenSource | None:
    """The token files that ``source`` names; None when it names text. A folder or glob of a train.bin and a val.bin is
    taken as these splits."""
    if source.startswith("hf:"):
        return None
    files = find_files(source)
    if not any(file.suffix.lower() == ".bin" for file in files):
        return None
    bins = [file for file in files if file.suffix.lower() == ".bin"]
    if {file.name for file in bins} == {"train.bin", "val.bin"} and len(bins) == 2:
        if val_fraction is not None:
            raise UserError(
                f"val_fraction: {source} has a train.bin and a val.bin, which stay as they are; leave it out"
            )
        return TokenSource(source, tuple(sorted(bins, key=lambda file: file.name)), given=True)
    if len(bins) != len(files):
        other = next(file for file in files if file not in bins)
        raise UserError(f"source: {source} names tokens ({bins[0].name}) and other files ({other.name}); give one kind")
    return TokenSource(source, tuple(files), given=False)


def _train_of(tokens: np.ndarray, place: int, cut: Cut, end: int | None) -> int:
    """How many of the tokens at ``place`` are train."""
    train = min(max(cut.at - place, 0), len(tokens))
    if 0 < train < len(tokens) and end is not None:
        near = tokens[train - 1 : train + (cut.total - cut.at) // 10]  # as Cut says of text
        ends = np.flatnonzero(near == end)
        return train + int(ends[0]) if len(ends) else train
    return train


def _encoded(split: int, tokens: np.ndarray, end: int | None, bytes_of: np.ndarray) -> Encoded:
    ends = np.flatnonzero(tokens == end) + 1 if end is not None else np.array([], dtype=np.int64)
    bounds = [0, *ends.tolist(), *([len(tokens)] if not len(ends) or ends[-1] < len(tokens) else [])]
    lengths = np.diff(bounds).tolist()
    whole = [True] * len(ends) + [False] * (len(lengths) - len(ends))
    return Encoded(split, tokens.tobytes(), lengths, whole, int(bytes_of[tokens].sum()))


def _blocks(file: Path, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    with plainly(file, "read"), file.open("rb") as stream:
        header = stream.read(HEADER)
        words = np.frombuffer(header[: len(header) // 4 * 4], dtype="<i4")
        dtype = MAGIC.get(int(words[0])) if len(header) == HEADER and words[1] in (1, 7) else None
        if dtype is None:
            dtype = dtype_for(tokenizer.vocab_size)
            stream.seek(0)
        width = np.dtype(dtype).itemsize
        size = file.stat().st_size - stream.tell()
        if not size or size % width:
            raise UserError(f"source: {file}: {size} bytes are no whole number of {dtype} tokens; empty or truncated")
        if stream.tell() and words[2] != size // width:
            raise UserError(f"source: {file}: its header tells of {words[2]} tokens, it has {size // width}")
        first = True
        while block := stream.read(BLOCK * width):
            tokens = np.frombuffer(block[: len(block) // width * width], dtype=dtype)
            if first and width == 2 and len(tokens) > 64 and not tokens[1:8192:2].any() and tokens[:8192:2].any():
                raise UserError(f"source: {file}: every second token is 0, so it looks like uint32, expected uint16")
            first = False
            yield tokens
