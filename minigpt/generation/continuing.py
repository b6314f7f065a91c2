"""From prompts as texts to samples: encoded, continued in batches, each with its seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.exchange.trained import TrainedModel
from minigpt.generation.config import Sampling
from minigpt.generation.decoding import Continuation, generate

ROWS = 64  # samples that are continued together; more would only take more memory


@dataclasses.dataclass(frozen=True)
class Sample:
    """One continuation of a prompt. seed: gives it again, alone or in a batch."""

    prompt: str
    prompt_tokens: list[int]
    seed: int
    continuation: Continuation


def continue_texts(
    trained: TrainedModel,
    prompts: Sequence[str],
    max_new_tokens: int,
    sampling: Sampling,
    seed: int = 0,
    *,
    num_samples: int = 1,
    stop: Sequence[str] = (),
    stop_at_eot: bool = True,
    alternatives: int | None = None,
    where: str = "start",
) -> Iterator[Sample]:
    """The samples of each prompt in turn; sample i of a prompt has the seed ``seed + i``.

    alternatives: as in ``decoding.stream``. where: what an error calls the prompts.
    Raises UserError for a prompt that the tokenizer cannot express, before the first sample.
    """
    encoded = [encode(prompt, trained.tokenizer, where) for prompt in prompts]
    rows = [(place, seed + i) for place in range(len(prompts)) for i in range(num_samples)]
    for begin in range(0, len(rows), ROWS):
        some = rows[begin : begin + ROWS]
        found = generate(
            trained.model,
            [encoded[place] for place, _ in some],
            max_new_tokens,
            sampling,
            [own for _, own in some],
            vocab_size=trained.tokenizer.vocab_size,
            stop=stop,
            stop_tokens=end_tokens(trained.tokenizer, stop_at_eot),
            tokenizer=trained.tokenizer,
            alternatives=alternatives,
        )
        for (place, own), continuation in zip(some, found, strict=True):
            yield Sample(prompts[place], encoded[place], own, continuation)


def encode(prompt: str, tokenizer: Tokenizer, where: str = "start") -> list[int]:
    """A prompt's tokens; an empty one is the token between documents. Raises UserError where there is none."""
    if prompt:
        try:
            return tokenizer.encode(prompt).tolist()
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if tokenizer.eot_token is None:
        raise UserError(f"{where}: is empty, and this tokenizer has no token to begin a text with. Give some text")
    return [tokenizer.eot_token]


def end_tokens(tokenizer: Tokenizer, stop_at_eot: bool) -> tuple[int, ...]:
    """The tokens that end a sample."""
    return (tokenizer.eot_token,) if stop_at_eot and tokenizer.eot_token is not None else ()
