"""One file of tokens under a running training: small ones are held in memory, large ones read as they are needed.

What a run was started with is what was checked. A file that somebody has replaced, shortened, changed or deleted since
ends the run before it learns from tokens nobody checked; put back, it lets the run go on. Under training nothing is
read through a memory map, whose reader is killed by a signal when the file gets shorter.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from minigpt.errors import OutsideError
from minigpt.files import plainly

IN_MEMORY = 64 << 20
"""Bytes of the largest file that is held in memory."""

_Stamp = tuple[int, int, int, int]


class DataChangedError(OutsideError):
    """The tokens under a run are no longer those it was started with."""


class TokenFile:
    """Tokens of a .bin file. tokens: (n,) of ``dtype``; of a large file a memory map, for looking around.

    Raises UserError when the file cannot be read.
    """

    def __init__(self, file: Path, dtype: str, vocab_size: int):
        self.file, self.vocab_size = file, vocab_size
        with plainly(file, "read"):
            self._stream = file.open("rb", buffering=0)
            self._seen = _stamp(os.fstat(self._stream.fileno()))
            self._held = self._seen[2] <= IN_MEMORY
            if self._held:
                with self._stream:
                    self.tokens: np.ndarray = np.frombuffer(self._stream.readall(), dtype=dtype)
            else:
                self.tokens = np.asarray(np.memmap(file, dtype=dtype, mode="r"))  # a plain view: faster to index

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """The ``length`` tokens from each of ``starts`` on: (n, length) int64.

        Raises DataChangedError when the file is not what it was when it was opened.
        """
        self._look()
        if self._held:
            return self.tokens[starts[:, None] + np.arange(length)].astype(np.int64)
        windows = np.empty((len(starts), length), dtype=self.tokens.dtype)
        for start, window in zip(starts.tolist(), windows, strict=True):
            self._stream.seek(start * window.itemsize)
            if self._stream.readinto(window.data) != window.nbytes:
                raise self._changed("was shortened")
        if windows.max() >= self.vocab_size:
            raise self._changed("was changed", f" (token {windows.max()} is outside the vocabulary)")
        return windows.astype(np.int64)

    def _look(self) -> None:
        """Raise DataChangedError unless the file is the one that was opened, or holds the same."""
        try:
            now = _stamp(os.stat(self.file))
        except FileNotFoundError:
            raise self._changed("was deleted") from None
        except OSError as error:
            raise self._changed(f"cannot be reached any more ({error.strerror})") from None
        if now == self._seen:
            return
        if self._held and now[2] == self._seen[2]:
            with plainly(self.file, "read"):
                if self.file.read_bytes() == self.tokens.tobytes():
                    self._seen = now
                    return
        replaced = now[:2] != self._seen[:2]
        raise self._changed(
            "was replaced" if replaced else "was shortened" if now[2] < self._seen[2] else "was changed"
        )

    def _changed(self, how: str, more: str = "") -> DataChangedError:
        return DataChangedError(
            f"{self.file}: {how} while a run was reading it{more}. Prepare the dataset as it was, then resume the run, "
            f"or start its sweep again; another dataset needs another name"
        )


def _stamp(found: os.stat_result) -> _Stamp:
    """What tells that a file is another one, or has been written to."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
