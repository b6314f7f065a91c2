"""The order of epochs: every block of a split once, in another order each time, and any place of it computed at once.

A permutation of N blocks is not held in memory: it is a Feistel network over the next power of four, keyed by seed,
dataset and epoch, walked on from results outside of N (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary
finite domains"). So the n-th row of a run needs neither the rows before it nor, for 10^9 blocks, 8 GB per epoch; and
it is the same under every version of numpy, whose ``permutation`` may change.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 6
"""Of the network. Four make a random-looking permutation (Luby and Rackoff 1988); small halves want some more."""
_LEAST_BITS = 3  # of a half: in a smaller one too few permutations exist


def blocks_of(tokens: int, block_size: int) -> int:
    """Blocks of a split: windows of ``block_size`` inputs that share nothing but the token where one ends. The rest of
    less than a block at the end is in none."""
    return (tokens - 1) // block_size


def block_at(numbers: np.ndarray, blocks: int, seed: int, source: int = 0) -> np.ndarray:
    """The block that the n-th row drawn of a split is, for each n in ``numbers``: (n,) int64.

    Row n belongs to epoch n // blocks. source: number of the dataset, whose order is its own.
    """
    epochs, places = np.divmod(numbers, blocks)
    found = np.empty_like(numbers)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        found[here] = permuted(places[here], blocks, (seed, source, int(epoch)))
    return found


def permuted(places: np.ndarray, size: int, key: tuple[int, ...]) -> np.ndarray:
    """The images of ``places`` under the permutation of 0 .. size - 1 that ``key`` picks."""
    bits = max(_LEAST_BITS, ((size - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)
    found = _feistel(places.astype(np.uint64), bits, keys)
    while (outside := found >= size).any():
        found[outside] = _feistel(found[outside], bits, keys)
    return found.astype(np.int64)


def _feistel(values: np.ndarray, bits: int, keys: np.ndarray) -> np.ndarray:
    """A permutation of 0 .. 4**bits - 1."""
    mask, shift = np.uint64((1 << bits) - 1), np.uint64(bits)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << shift) | right


def _mixed(values: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of the value: the finaliser of splitmix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
