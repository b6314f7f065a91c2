"""A set of 64-bit keys in two arrays: some 20 bytes a key, where a Python set takes 100."""

from __future__ import annotations

import numpy as np

_FULL = 0.6  # of the slots; then there are twice as many


class Table:
    """Keys with a number each; the same key may stand there several times. Open addressing, linear probing."""

    def __init__(self, slots: int = 1 << 12):
        self._keys = np.zeros(slots, dtype=np.uint64)
        self._numbers = np.full(slots, -1, dtype=np.int32)  # -1: free
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, keys: np.ndarray, most: int) -> np.ndarray:
        """The numbers that stand with any of ``keys`` (n,): up to ``most`` for each, the earliest first; sorted."""
        mask = len(self._keys) - 1
        slots = self._slots(keys)
        found: list[np.ndarray] = []
        times = np.zeros(len(keys), dtype=np.int64)
        while len(keys):
            numbers = self._numbers[slots]
            same = (self._keys[slots] == keys) & (numbers >= 0)
            found.append(numbers[same])
            times = times + same
            on = (numbers >= 0) & (times < most)
            keys, slots, times = keys[on], (slots[on] + 1) & mask, times[on]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int32)

    def add(self, keys: np.ndarray, number: int) -> None:
        """Put ``keys`` (n,) there, each with ``number``."""
        if self._count + len(keys) > _FULL * len(self._keys):
            self._grow(len(keys))
        self._place(keys, np.full(len(keys), number, dtype=np.int32))
        self._count += len(keys)

    def _place(self, keys: np.ndarray, numbers: np.ndarray) -> None:
        mask = len(self._keys) - 1
        slots = self._slots(keys)
        while len(keys):
            free = np.flatnonzero(self._numbers[slots] < 0)
            _, first = np.unique(slots[free], return_index=True)  # of those that want one slot, one gets it
            winners = free[first]
            self._keys[slots[winners]], self._numbers[slots[winners]] = keys[winners], numbers[winners]
            on = np.ones(len(keys), dtype=bool)
            on[winners] = False
            keys, numbers, slots = keys[on], numbers[on], (slots[on] + 1) & mask

    def _grow(self, room: int) -> None:
        keys, numbers = self._keys, self._numbers
        slots = len(keys)
        while self._count + room > _FULL / 2 * slots:
            slots *= 2
        taken = np.flatnonzero(numbers >= 0)
        order = taken[np.argsort(numbers[taken], kind="stable")]  # of equal keys the earliest comes first again
        self._keys = np.zeros(slots, dtype=np.uint64)
        self._numbers = np.full(slots, -1, dtype=np.int32)
        self._place(keys[order], numbers[order])

    def _slots(self, keys: np.ndarray) -> np.ndarray:
        """Where a key would like to stand: its highest bits, which are as random as any."""
        return (keys >> np.uint64(64 - (len(self._keys) - 1).bit_length())).astype(np.int64)
