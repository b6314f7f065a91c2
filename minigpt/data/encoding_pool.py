"""Encoding in several processes. Run as a module, this file is a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minigpt.data import tokenizers, worker_pool
from minigpt.data.encoding import Batch, Encoded, Encoder
from minigpt.data.tokenizers import Tokenizer
from minigpt.data.worker_pool import Answer


def encoded(batches: Iterable[Batch], tokenizer: Tokenizer, dtype: str, ended: bool, workers: int) -> Iterator[Encoded]:
    """The batches as tokens, in their order. workers: processes; 1 is this one.

    Raises UserError for text the vocabulary cannot express, and when a worker is killed.
    """
    if workers == 1:
        yield from map(Encoder(tokenizer, dtype, ended), batches)
        return
    setup = {"tokenizer": tokenizer.to_json(), "dtype": dtype, "ended": ended}
    requests = ((batch, [batch.split, batch.texts, batch.ends, batch.origins]) for batch in batches)
    for batch, said, tokens in worker_pool.answers(__name__, setup, requests, workers):
        yield Encoded(batch.split, tokens, said["lengths"], batch.ends, said["text_bytes"])


def _encoder(setup: Any) -> Callable[[Any], Answer]:
    """What a worker does with a batch."""
    encode = Encoder(tokenizers.from_json(setup["tokenizer"]), setup["dtype"], setup["ended"])

    def work(request: Any) -> Answer:
        found = encode(Batch(*request))
        return {"lengths": found.lengths, "text_bytes": found.text_bytes}, found.tokens

    return work


if __name__ == "__main__":
    worker_pool.serve(_encoder)
