"""One file of tokens under a running training: small ones are held in memory, large ones mapped and watched.

A mapped file that is shortened ends the process with a bus error when the missing part is read, and one that is changed
in place feeds a training tokens nobody checked. Both are seen here first, by the file's size and time.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from minigpt.errors import UserError
from minigpt.files import plainly

IN_MEMORY = 64 << 20
"""Bytes of the largest file that is held in memory: what was checked when it was opened is what is read."""


class TokenFile:
    """Tokens of a .bin file. tokens: (n,) of ``dtype``.

    Raises UserError when the file cannot be read.
    """

    def __init__(self, file: Path, dtype: str, vocab_size: int):
        self.file, self.vocab_size = file, vocab_size
        self._map = None
        with plainly(file, "read"):
            if file.stat().st_size <= IN_MEMORY:
                self.tokens: np.ndarray = np.frombuffer(file.read_bytes(), dtype=dtype)
            else:
                self._map = file.open("rb")
                self._seen = self._stamp()
                self.tokens = np.asarray(np.memmap(self._map, dtype=dtype, mode="r"))  # a plain view: faster to index

    def read(self, places: np.ndarray | slice) -> np.ndarray:
        """The tokens at ``places``, as int64. Raises UserError when the file has changed since it was opened."""
        if self._map is None:
            return self.tokens[places].astype(np.int64)
        if self._stamp() != self._seen:
            raise self._changed()
        tokens = self.tokens[places].astype(np.int64)
        if tokens.max() >= self.vocab_size:
            raise self._changed(f" (token {tokens.max()} is outside the vocabulary of {self.vocab_size})")
        return tokens

    def _stamp(self) -> tuple[int, int]:
        assert self._map is not None
        found = os.fstat(self._map.fileno())
        return found.st_size, found.st_mtime_ns

    def _changed(self, how: str = "") -> UserError:
        return UserError(
            f"{self.file}: was changed while a run was reading it{how}. "
            f"Prepare the dataset as it was, then resume the run; another dataset needs another name"
        )
