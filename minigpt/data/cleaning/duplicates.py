"""Documents that have been there before, word for word."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from minigpt.data.cleaning.base import Comparison, Dropped
from minigpt.data.cleaning.table import Table
from minigpt.registry import register
from minigpt.schema import options


@register("clean", "duplicates")
class Duplicates(Comparison):
    """Drops a document whose text an earlier one had.

    ignore_case: whether capitals make no difference. ignore_space: whether spaces, tabs and line ends make none.
    Texts are told apart by 64 bits of a hash: of ten million documents, one is dropped for another in 400,000 runs.
    Holds some 20 bytes a document.
    """

    @options
    class Config:
        ignore_case: bool = False
        ignore_space: bool = True

    def __init__(self, config: Config):
        self.config = config

    def sketch(self, text: str) -> bytes:
        text = text.lower() if self.config.ignore_case else text
        text = re.sub(r"\s+", " ", text).strip() if self.config.ignore_space else text
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()

    def open(self, folder: Path) -> None:
        self._table, self._seen = Table(), 0

    def compare(self, sketch: bytes, origin: str) -> Dropped | None:
        key = np.frombuffer(sketch, dtype="<u8").astype(np.uint64)
        if len(self._table.find(key, 1)):
            return Dropped("an earlier document has the same text")
        self._table.add(key, 0)
        return None
