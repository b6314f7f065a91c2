"""Words and runs of words as 64-bit numbers, without a Python loop over them, the same in every process.

A word is a run of letters and digits of any script, in lower case; of Chinese and Japanese, which are written without
spaces, each character. Hashes are polynomials modulo 2^64 over the UTF-8 bytes, taken from prefix sums and mixed.
"""

from __future__ import annotations

import functools

import numpy as np

_BASE, _STEP = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95  # odd, so that powers have inverses
_WORD = np.zeros(256, dtype=bool)
_WORD[[*range(0x30, 0x3A), *range(0x61, 0x7B), *range(0x80, 0x100)]] = True


class Words:
    """The words of a text. hashes: (n,) uint64. lengths: (n,) bytes of each."""

    def __init__(self, text: str):
        content = np.frombuffer(text.lower().encode("utf-8", "surrogatepass"), dtype=np.uint8)
        starts, ends = _bounds(content)
        powers, inverses = _powers(_room(len(content)))
        sums = np.zeros(len(content) + 1, dtype=np.uint64)
        np.cumsum((content.astype(np.uint64) + np.uint64(1)) * powers[: len(content)], out=sums[1:])
        self.lengths = ends - starts
        self.hashes = mixed((sums[ends] - sums[starts]) * inverses[starts] + self.lengths.astype(np.uint64))

    def __len__(self) -> int:
        return len(self.hashes)

    def runs(self, length: int) -> np.ndarray:
        """The hash of every ``length`` words in a row, (n - length + 1,) uint64; of fewer words, of them all."""
        length = min(length, len(self.hashes))
        if not length:
            return np.zeros(0, dtype=np.uint64)
        count = len(self.hashes) - length + 1
        total = np.zeros(count, dtype=np.uint64)
        for place in range(length):
            total = total * np.uint64(_STEP) + self.hashes[place : place + count]
        return mixed(total)


def mixed(values: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of the value: the finaliser of splitmix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _bounds(content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where words start and end, in bytes."""
    inside = np.zeros(len(content) + 2, dtype=bool)
    inside[1:-1] = _WORD[content]
    if content.size and content.max() >= 0xE3:
        return _bounds_with_ideographs(content, inside)
    change = np.flatnonzero(inside[1:] != inside[:-1])
    return change[::2], change[1::2]


def _bounds_with_ideographs(content: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As above, where characters of three bytes from E3 to E9 (U+3000 to U+9FFF) are words of their own."""
    lead = np.zeros(len(content) + 2, dtype=bool)
    lead[1:-1] = (content >= 0xE3) & (content <= 0xE9)
    ideograph = lead.copy()
    ideograph[1:] |= lead[:-1]
    ideograph[2:] |= lead[:-2]
    start = inside[1:-1] & (~inside[:-2] | lead[1:-1] | (ideograph[:-2] & ~ideograph[1:-1]))
    starts = np.flatnonzero(start)
    stops = np.flatnonzero(inside[1:-1] & ~inside[2:]) + 1
    stop_of = np.append(stops, len(content))[np.searchsorted(stops, starts, side="right")]
    return starts, np.minimum(stop_of, np.append(starts[1:], len(content)))


def _room(length: int) -> int:
    """Powers are kept for a few lengths only."""
    return max(1 << 16, 1 << length.bit_length())


@functools.lru_cache(maxsize=4)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first powers of the base and of its inverse."""
    both = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        powers = np.full(count, base, dtype=np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers, dtype=np.uint64))
    return both[0], both[1]
