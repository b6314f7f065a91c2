"""Documents to tokens: cut into train and validation, gathered into batches, encoded one batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from minigpt.data.document import Document
from minigpt.data.survey import with_text
from minigpt.data.text_files import cut_of
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError

BATCH = 1 << 21
"""Characters after which a batch is full. What is written does not depend on who encodes which batch."""
PIECE = 1 << 20  # characters encoded at once where the tokenizer allows it


@dataclass(frozen=True)
class Cut:
    """Where validation begins: after ``at`` of ``total`` characters, or at the end of the document it falls into, if
    that is no further than a tenth of the validation text; so short documents stay whole."""

    at: int
    total: int

    @classmethod
    def of(cls, total: int, val_fraction: float) -> Cut:
        return cls(int(total * (1 - val_fraction)), total)

    def within(self, start: int, length: int, ends: bool) -> int:
        """How much of a text at ``start`` is train."""
        if ends and start < self.at < start + length and start + length - self.at <= (self.total - self.at) // 10:
            return length
        return min(max(self.at - start, 0), length)


@dataclass
class Batch:
    """Texts of one split. ends: for each, whether its document ends with it. origins: where they stood."""

    split: int
    texts: list[str] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Encoded:
    """split: 0 for train, 1 for validation. tokens: as they are stored. lengths: tokens of each text. ends: for each,
    whether its document ends with it. text_bytes: of UTF-8 text the tokens stand for."""

    split: int
    tokens: bytes
    lengths: list[int]
    ends: list[bool]
    text_bytes: int


def batches(documents: Iterable[Document], cut: Cut, newline: bool) -> Iterator[Batch]:
    """The documents in batches of one split each. newline: a document that does not end with one gets one."""
    place, size, batch = 0, 0, Batch(0)
    for document in with_text(documents):
        text = document.text
        if newline and document.ends and not text.endswith("\n"):
            text += "\n"
        parts = _parts(text, document.ends, place, cut) or [(batch.split, "", True)]
        place += len(text)
        for split, part, ends in parts:
            if batch.split != split or size >= BATCH:
                if batch.texts:
                    yield batch
                size, batch = 0, Batch(split)
            batch.texts.append(part)
            batch.ends.append(ends)
            batch.origins.append(document.origin)
            size += len(part)
    if batch.texts:
        yield batch


def _parts(text: str, ends: bool, place: int, cut: Cut) -> list[tuple[int, str, bool]]:
    """Split, text of it, and whether the document ends with it: one for every text but that at the cut."""
    train = cut.within(place, len(text), ends)
    if train in (0, len(text)):
        return [(int(train == 0), text, ends)] if text else []
    return [(0, text[:train], False), (1, text[train:], ends)]


class Encoder:
    """A tokenizer at work. dtype: of the stored tokens. ended: whether a document's end gets the end-of-text token."""

    def __init__(self, tokenizer: Tokenizer, dtype: str, ended: bool):
        self.tokenizer, self.dtype = tokenizer, dtype
        self._end = np.array([tokenizer.eot_token] if ended else [], dtype=np.int64)
        self._bytes_of = tokenizer.token_bytes()

    def __call__(self, batch: Batch) -> Encoded:
        """Raises UserError, with where it stood, for text the vocabulary cannot express."""
        tokens, lengths = [np.array([], dtype=np.int64)], []
        for text, ends, origin in zip(batch.texts, batch.ends, batch.origins, strict=True):
            before = len(tokens)
            try:
                tokens += self._encoded(text)
            except UserError as error:
                raise UserError(f"{origin}: {error}") from None
            if ends:
                tokens.append(self._end)
            lengths.append(sum(len(ids) for ids in tokens[before:]))
        ids = np.concatenate(tokens).astype(self.dtype)
        return Encoded(batch.split, ids.tobytes(), lengths, batch.ends, int(self._bytes_of[ids].sum()))

    def _encoded(self, text: str) -> Iterator[np.ndarray]:
        step = PIECE if self.tokenizer.cut_anywhere else self.tokenizer.at_once
        start = 0
        while len(text) - start > step:
            piece = text[start : start + step]
            piece = piece if self.tokenizer.cut_anywhere else piece[: cut_of(piece)]
            yield self.tokenizer.encode(piece)
            start += len(piece)
        if text[start:]:
            yield self.tokenizer.encode(text[start:])
