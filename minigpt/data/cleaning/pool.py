"""Steps at work on single documents, in one process or several. Run as a module, this file is a worker."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from minigpt.data import worker_pool
from minigpt.data.cleaning.base import Leakage, Step
from minigpt.data.cleaning.examine import Examined, examine, packed, unpacked
from minigpt.data.cleaning.steps import ReadSteps, Steps
from minigpt.data.document import Document
from minigpt.data.worker_pool import Answer
from minigpt.plugins import load_plugins

BATCH = 1 << 19
"""Characters that go to a process at once."""
WORTH_WORKERS = 1 << 23  # characters; fewer are done before another process has started


@dataclass(frozen=True)
class Pool:
    """workers: processes; 1 is this one, None as many as there are cores where the text is worth it."""

    steps: Steps
    workers: int | None
    plugins: tuple[str, ...]

    def examined(self, documents: Iterable[Document], *, leakage: bool = False) -> Iterator[tuple[Document, Examined]]:
        """What the steps make of every document, in order. leakage: those that compare train with val, else all
        others."""
        batches = iter(_batches(documents))
        workers = self.workers
        if workers is None:
            first, size = [], 0
            for batch in batches:
                first.append(batch)
                size += sum(len(document.text) for document in batch)
                if size >= WORTH_WORKERS:
                    break
            workers = worker_pool.cores() if size >= WORTH_WORKERS else 1
            batches = itertools.chain(first, batches)
        if workers == 1:
            steps = _chosen(self.steps, leakage)
            for batch in batches:
                for document in batch:
                    yield document, examine(steps, document.text)
            return
        setup = {"steps": list(self.steps.to_plain().items()), "plugins": list(self.plugins), "leakage": leakage}
        requests = ((batch, [document.text for document in batch]) for batch in batches)
        for batch, said, content in worker_pool.answers(__name__, setup, requests, workers):
            yield from zip(batch, unpacked(said, content), strict=True)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _chosen(steps: Steps, leakage: bool) -> list[Step]:
    return [step for step in steps.build().values() if isinstance(step, Leakage) == leakage]


def _examiner(setup: Any) -> Callable[[Any], Answer]:
    """What a worker does with a batch."""
    load_plugins(setup["plugins"])
    steps = _chosen(ReadSteps().read(dict(setup["steps"]), "clean"), setup["leakage"])
    return lambda texts: packed([examine(steps, text) for text in texts])


if __name__ == "__main__":
    worker_pool.serve(_examiner)
