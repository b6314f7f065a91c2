"""Texts that the harness asks for: continued up to a stop string, many prompts at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.evaluation.scoring import InterruptedScoringError, Scorer
from minigpt.generation.config import Sampling
from minigpt.generation.decoding import generate
from minigpt.schema import NonNegativeFloat, PositiveInt, options, typed

SEED = 1234  # of sampled texts; the harness's own for torch
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@options
class GenerationOptions(Sampling):
    """What ``generation_kwargs`` of a task may say.

    until: texts that end the answer, which does not hold them. max_gen_toks: tokens at most.
    """

    temperature: NonNegativeFloat = 0.0
    until: list[str] = ()  # type: ignore[assignment]
    max_gen_toks: PositiveInt


@dataclasses.dataclass(frozen=True)
class Ask:
    """One prompt as tokens, not empty, and how to go on from it."""

    prompt: tuple[int, ...]
    options: GenerationOptions

    @classmethod
    def of(cls, prompt: Sequence[int], given: Mapping[str, Any], longest: int, prefix: int) -> Ask:
        """given: the task's words. longest: tokens where it does not say. prefix: what an empty prompt is."""
        content = {key: value for key, value in dict(given).items() if value is not None}
        lengths = [content.pop(name) for name in _LENGTHS if name in content]
        until = content.pop("until", [])
        content["until"] = [until] if isinstance(until, str) else [text for text in until if text]
        content["max_gen_toks"] = lengths[0] if lengths else longest
        if content.pop("do_sample", content.get("temperature", 0) != 0):
            content.setdefault("temperature", 1.0)
        else:
            content["temperature"] = 0.0
        if content["temperature"] == 0 or content.get("top_k") == 0:
            content.pop("top_k", None)
        if content["temperature"] == 0:
            content.pop("top_p", None)
        return cls(tuple(prompt) or (prefix,), typed(GenerationOptions, content, "generation_kwargs"))


def continued(scorer: Scorer, tokenizer: Tokenizer, asks: Sequence[Ask]) -> Iterator[tuple[int, str]]:
    """(number of the ask, its text), as they are done: those with the same options together, the longest first."""
    groups: dict[GenerationOptions, list[int]] = {}
    for number, ask in enumerate(asks):
        groups.setdefault(ask.options, []).append(number)
    for numbers in groups.values():
        numbers.sort(key=lambda number: (-len(asks[number].prompt), asks[number].prompt))
        done: list[tuple[int, str]] = []
        reach = lambda number: len(asks[number].prompt) + asks[number].options.max_gen_toks  # noqa: E731

        def work(batch: Sequence[int], done: list[tuple[int, str]] = done) -> int:
            done += zip(batch, _texts(scorer, tokenizer, [asks[number] for number in batch]), strict=True)
            return len(batch)

        scorer.batches.run(numbers, reach, work)
        yield from done


def _texts(scorer: Scorer, tokenizer: Tokenizer, asks: Sequence[Ask]) -> list[str]:
    """What the model says to prompts of the same options."""
    model, wanted = scorer.model, asks[0].options
    room = scorer.limit - wanted.max_gen_toks
    if room < 1:
        raise UserError(
            f"generation_kwargs: max_gen_toks={wanted.max_gen_toks} leaves nothing of the model's context of "
            f"{scorer.limit} tokens for the prompt. Take fewer, or a model with a larger model.block_size"
        )
    stop_tokens = () if tokenizer.eot_token is None else (tokenizer.eot_token,)
    if scorer.give_up():
        raise InterruptedScoringError
    rows = generate(
        model,
        [ask.prompt[-room:] for ask in asks],
        wanted.max_gen_toks,
        wanted,
        SEED,
        vocab_size=tokenizer.vocab_size,
        stop_tokens=stop_tokens,
        stop=wanted.until,
        tokenizer=tokenizer,
    )
    return [(row.text or "") if row.finish == "stop" else tokenizer.decode(row.tokens) for row in rows]
