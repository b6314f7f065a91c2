"""Documents that say almost the same as an earlier one: MinHash finds candidates, their runs of words decide."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from minigpt.data.cleaning.base import Comparison, Dropped
from minigpt.data.cleaning.fingerprints import Words, mixed
from minigpt.data.cleaning.table import Table
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Limit, Range, options

VALUES = 96  # MinHash values of a document
SURE = 0.98
_CANDIDATES = 4  # documents looked up for each band: of a boilerplate that thousands share, the first few
_SEED = 1


@register("clean", "near_duplicates")
class NearDuplicates(Comparison):
    """Drops a document whose set of word runs is much like an earlier one's: their Jaccard similarity, the runs both
    have over the runs either has, is ``threshold`` or more.

    Broder 1997; locality-sensitive hashing of 96 MinHash values in bands, Leskovec et al. 2020, ch. 3. A pair at the
    threshold becomes a candidate with a probability of 0.98 or more (0.992 for 0.8), one above it more surely. Then it
    is compared run by run, so no document is dropped for an estimate.
    threshold: of similarity. words: in a run.
    Holds some 350 bytes a document, twice that at a threshold of 0.5; the runs themselves lie in a file, 4 bytes each.
    """

    @options
    class Config:
        threshold: Annotated[float, Range(gt=0, le=1)] = 0.8
        words: Annotated[int, Range(ge=1), Limit(100)] = 5

    def __init__(self, config: Config):
        self.config = config
        self._minhash = _minhash()
        self._bands, self._rows = banding(config.threshold)

    def sketch(self, text: str) -> bytes:
        """A key for each band, and the runs: sorted 32-bit hashes, each once."""
        words = Words(text)
        runs = words.runs(self.config.words)
        if not len(runs):
            return b""
        keys = self._band_keys(runs)
        return keys.tobytes() + np.unique((runs >> np.uint64(32)).astype("<u4")).tobytes()

    def _band_keys(self, runs: np.ndarray) -> np.ndarray:
        """(bands,) uint64: documents with equal keys at any place are candidates."""
        bands, rows = self._bands, self._rows
        offsets = np.array([0, len(runs)], dtype=np.uint64)
        values = self._minhash.digest_matrix_from_flat_token_hashes(runs, offsets, bands * rows, _SEED).to_rows()
        signature = np.array(values[0], dtype=np.uint64).reshape(bands, rows)
        keys = np.arange(bands, dtype=np.uint64)  # the same values in another band are no match
        for row in range(rows):
            keys = mixed(keys * np.uint64(0x9E3779B97F4A7C15) + signature[:, row])
        return keys

    def open(self, folder: Path) -> None:
        self._table, self._runs = Table(), _RunsFile(folder / "runs")

    def compare(self, sketch: bytes, origin: str) -> Dropped | None:
        if not sketch:  # no word to compare
            return None
        keys = np.frombuffer(sketch, dtype="<u8", count=self._bands).astype(np.uint64)
        runs = np.frombuffer(sketch, dtype="<u4", offset=8 * self._bands)
        for number in self._table.find(keys, _CANDIDATES).tolist():
            earlier, other = self._runs.read(number)
            similarity = jaccard(runs, other)
            if similarity >= self.config.threshold:
                return Dropped("an earlier document is almost the same", f"Jaccard {similarity:.2f} with {earlier}")
        self._table.add(keys, self._runs.add(origin, runs))
        return None

    def close(self) -> None:
        self._runs.close()


def banding(threshold: float) -> tuple[int, int]:
    """(bands, rows) that make candidates of almost all pairs at the threshold, and of few below it."""
    for rows in range(VALUES, 0, -1):
        bands = VALUES // rows
        if 1 - (1 - threshold**rows) ** bands >= SURE:
            return bands, rows
    return VALUES, 1


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Similarity of two sorted sets, (n,) and (m,)."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def _minhash() -> Any:
    try:
        from rensa import RMinHash
    except ImportError:
        raise UserError("clean: near_duplicates needs rensa: pip install 'minigpt[data]'") from None
    return RMinHash


class _RunsFile:
    """The runs of every document that was kept, and where it stood."""

    def __init__(self, file: Path):
        self._file, self._end = file.open("w+b", buffering=0), 0
        self._places = array("Q")

    def add(self, origin: str, runs: np.ndarray) -> int:
        name = origin.encode("utf-8", "surrogatepass")
        content = struct.pack("<II", len(name), len(runs)) + name + runs.tobytes()
        self._file.seek(self._end)
        self._file.write(content)
        self._places.append(self._end)
        self._end += len(content)
        return len(self._places) - 1

    def read(self, number: int) -> tuple[str, np.ndarray]:
        self._file.seek(self._places[number])
        name, runs = struct.unpack("<II", self._file.read(8))
        content = self._file.read(name + 4 * runs)
        return content[:name].decode("utf-8", "surrogatepass"), np.frombuffer(content, dtype="<u4", offset=name)

    def close(self) -> None:
        self._file.close()
