"""Which dataset each row of a training comes from, as exactly as whole rows allow, and computed for any step at once.

Row after row, the dataset that is furthest behind its share comes next. That is apportionment by a divisor method: with
F(t) the rows a dataset should have had by row t (the integral of its share) and a phase u in [0, 1) that the seed
picks, its k-th row falls due where F(t) + u passes k, and rows are taken in the order in which they fall due. So after
any number of rows every dataset has had its share to within one row or two, and how many rows it has had, which an
epoch without replacement has to know, needs no replay of the steps before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigpt.config import DataConfig
from minigpt.data.dataset_folder import open_prepared
from minigpt.errors import UserError
from minigpt.files import sha256_of_text
from minigpt.mixture import Stage, names_of, shares

_PHASES = 1  # spawn key: phases and the places of windows are drawn from streams of their own


@dataclass(frozen=True)
class Schedule:
    """The shares of every dataset over a training.

    names: of the datasets, sorted. ends: (S,) the micro-batch after which each stage is over, the last one's infinite
    where nobody knows it. shares, goals: (S, K), of a stage at its beginning and at its end.
    """

    names: tuple[str, ...]
    ends: np.ndarray
    shares: np.ndarray
    goals: np.ndarray

    @classmethod
    def of(cls, stages: Sequence[Stage], steps: int | None, micro_batches: int, batch_size: int) -> Schedule:
        """steps: of the whole run, None where only time ends it. micro_batches: of a step. batch_size: rows of one.

        Raises UserError for a stage that no step would belong to, and a dataset that no row would come from.
        """
        names = tuple(names_of(stages))
        first = np.array([[shares(stage.mix).get(name, 0.0) for name in names] for stage in stages])
        last = np.array([[shares(stage.to or stage.mix).get(name, 0.0) for name in names] for stage in stages])
        ends = np.array(_ends(stages, steps), dtype=np.float64) * micro_batches
        schedule = cls(names, ends, first, last)
        if steps is not None:
            schedule._refuse_unused(steps * micro_batches * batch_size, batch_size)
        return schedule

    def rows(self, number: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the rows of micro-batch ``number`` come from: (size,) datasets, and which row of its dataset each is.

        Both follow from the arguments alone. seed: which dataset comes first; the shares are the same.
        """
        margin = len(self.names) + 1  # rows that phases may put before or after their time
        first, begin = number * size, max(number * size - margin, 0)
        due = self.due(np.arange(begin, first + size + margin + 1), size) + self._phases(seed)[:, None]
        counts = np.floor(due).astype(np.int64)
        dataset, place = np.nonzero(np.diff(counts) > 0)
        passed = (counts[dataset, place + 1] - due[dataset, place]) / (due[dataset, place + 1] - due[dataset, place])
        order = np.lexsort((dataset, passed, place))[first - counts[:, 0].sum() :][:size]
        return dataset[order], counts[dataset[order], place[order]]

    def due(self, rows: np.ndarray, size: int) -> np.ndarray:
        """(K, n): how many of the first ``rows`` rows should come from each dataset, not rounded. size: of a batch."""
        total = np.zeros((len(self.names), len(rows)))
        begin = 0.0
        for end, share, goal in zip(self.ends * size, self.shares, self.goals, strict=True):
            inside = np.clip(rows - begin, 0.0, end - begin)
            total += share[:, None] * inside
            if (goal != share).any():
                total += (goal - share)[:, None] * (inside * (inside / (end - begin)) / 2)
            begin = end
        return total

    def _phases(self, seed: int) -> np.ndarray:
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PHASES,))).random(len(self.names))

    def _refuse_unused(self, rows: int, size: int) -> None:
        for name, due in zip(self.names, self.due(np.array([rows]), size)[:, 0], strict=True):
            if due < 1:
                raise UserError(
                    f"data: '{name}' would never be used: its weights give it {due:.2g} of the {rows:,} rows of this "
                    f"run. Give it more weight or leave it out"
                )


def _ends(stages: Sequence[Stage], steps: int | None) -> list[float]:
    """The step after which each stage is over."""
    ends: list[float] = []
    for number, stage in enumerate(stages):
        place = f"data.curriculum[{number}]"
        is_last = number == len(stages) - 1
        if steps is None and (stage.until is not None or (is_last and stage.to)):
            raise UserError(
                f"{place}: nobody knows how many steps a run has that only training.max_seconds ends, so no share of "
                f"them either. Set training.max_steps or training.max_tokens, or use until_step"
            )
        if is_last:
            end = float("inf") if steps is None else float(steps)
        else:
            end = float(stage.until_step or round((stage.until or 0.0) * (steps or 0)))
        before = ends[-1] if ends else 0.0
        if steps is not None and (end > steps or (not is_last and end == steps)):
            raise UserError(f"{place}: ends at step {end:.0f}, and the run at step {steps}: what follows is never used")
        if end <= before:
            raise UserError(f"{place}: holds no step: it ends at step {end:.0f}, the stage before it at {before:.0f}")
        ends.append(end)
    return ends


def hash_of(data: DataConfig) -> str:
    """What a run on these datasets is trained on, by its hash. Raises UserError when one cannot be opened."""
    main = open_prepared(data.name, data.folder).meta.hash
    others = [name for name in names_of(data.stages) if name != data.name]
    return combined([main, *(open_prepared(name, data.folder).meta.hash for name in others)])


def combined(hashes: Sequence[str]) -> str:
    """The hash of several datasets, that of the main one first; of one alone it is its own."""
    return hashes[0] if len(hashes) == 1 else sha256_of_text(" ".join(hashes))
