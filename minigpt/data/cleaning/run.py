"""The cleaning of a source: its documents through all steps, once, into a file that is then what is prepared.

What looks at one document alone works in any number of processes; what compares documents decides here, in their order.
So the result depends on the documents and the steps, and on nothing else. Of the texts, a few batches are in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from minigpt.data.cleaning.base import Comparison, Leakage, Step
from minigpt.data.cleaning.examine import Examined, size_of
from minigpt.data.cleaning.pool import Pool
from minigpt.data.cleaning.spool import Spool, whole
from minigpt.data.cleaning.steps import Steps
from minigpt.data.cleaning.tally import Tally
from minigpt.data.document import Document
from minigpt.data.encoding import Cut
from minigpt.errors import UserError


@dataclass(frozen=True)
class Train:
    """The train split of what was kept: its characters, and documents in it that do not end with a newline."""

    characters: int
    unended: int


class Cleaned:
    """The documents that were kept. train: how far the train split goes among them, where a step compared it with val
    and the split is decided therefore; else None. tally: what was done."""

    def __init__(self, spool: Spool, tally: Tally, train: Train | None, leaked: frozenset[int]):
        self.tally, self.train = tally, train
        self._spool, self._leaked = spool, leaked

    def documents(self) -> Iterator[Document]:
        return self._spool.documents(without=self._leaked)


def clean(
    documents: Iterable[Document],
    steps: Steps,
    folder: Path,
    *,
    val_fraction: float,
    workers: int | None = 1,
    plugins: Iterable[str] = (),
    seen: Callable[[int], None] = lambda characters: None,
) -> Cleaned:
    """Take every document through the steps. folder: an empty one, for what is kept and what comparing has to remember.
    workers: processes; 1 is this one, None as many as there are cores where the text is worth it. plugins: whose steps
    there are. seen: is told of so many characters more.

    A part of a text too long to be held at once is a document to the steps. Raises UserError when nothing is left.
    """
    built = steps.build()
    singles = {label: step for label, step in built.items() if not isinstance(step, Leakage)}
    for label, step in singles.items():
        if isinstance(step, Comparison):
            (folder / label).mkdir()
            step.open(folder / label)
    tally, spool, pool = Tally(steps), Spool(folder / "documents"), Pool(steps, workers, tuple(plugins))

    def judged() -> Iterator[tuple[Document, bool]]:
        for document, found in pool.examined(documents):
            seen(len(document.text))
            kept = _is_kept(document, found, singles, tally)
            tally.came(found.sizes[0])
            if kept:
                tally.keep(found.sizes[-1])
            yield replace(document, text=found.text), kept

    for document in whole(judged()):
        spool.add(document)
    spool.close()
    for step in singles.values():
        if isinstance(step, Comparison):
            step.close()
    train, leaked = None, frozenset[int]()
    for label, step in built.items():
        if isinstance(step, Leakage):
            train, leaked = _without_leaks(spool, label, step, pool, tally, val_fraction)
    if tally.documents and not tally.kept:
        raise UserError(f"clean: nothing is left of {tally.documents:,} documents; {tally.worst()}")
    return Cleaned(spool, tally, train, leaked)


def _is_kept(document: Document, found: Examined, steps: Mapping[str, Step], tally: Tally) -> bool:
    """Settle what happens to a document, step by step, in the tally."""
    last = len(found.sizes) - 2
    for place, (label, step) in enumerate(steps.items()):
        before, after = found.sizes[place], found.sizes[place + 1]
        why = found.dropped if place == last else None
        if isinstance(step, Comparison):
            why = step.compare(found.sketches[place], document.origin)
        if why is not None:
            tally.steps[label].drop(tally.documents, before, document.origin, why, found.excerpts[place])
            return False
        tally.steps[label].pass_on(before, after, place in found.changed)
    return True


def _without_leaks(
    spool: Spool, label: str, step: Leakage, pool: Pool, tally: Tally, val_fraction: float
) -> tuple[Train, frozenset[int]]:
    """The train split, which ends where it would without the step; and which of its documents say what val asks."""
    first_val = inside = place = unended = 0
    cut = Cut.of(sum(spool.lengths), val_fraction)
    for number, document in enumerate(spool.documents()):
        inside = cut.within(place, spool.lengths[number], document.ends)
        if inside < spool.lengths[number]:
            break
        first_val, place = number + 1, place + inside
        unended += spool.unended[number]
        inside = 0
    count, leaked = tally.steps[label], set[int]()
    for document, found in pool.examined(itertools.islice(spool.documents(), first_val, None), leakage=True):
        size = size_of(document.text)
        count.pass_on(size, size, False)
        step.learn(found.sketches[0])
    train = itertools.islice(spool.documents(), first_val)
    for number, (document, found) in enumerate(pool.examined(train, leakage=True)):
        size = size_of(document.text)
        why = step.judge_sketch(found.sketches[0])
        if why is None:
            count.pass_on(size, size, False)
            continue
        count.drop(number, size, document.origin, why, found.excerpts[0])
        tally.unkeep(size)
        leaked.add(number)
        place, unended = place - spool.lengths[number], unended - spool.unended[number]
    return Train(place + inside, unended), frozenset(leaked)
