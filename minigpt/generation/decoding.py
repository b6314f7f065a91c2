"""Token by token: a prompt is read once (prefill), then each step reads one token and remembers it in the state.

A row has the context the model was built for, ``block_size`` tokens. When it has filled that, it goes on from the
last half of its context, read once more (the other rows keep all of theirs). That one prefill per ``block_size / 2``
tokens is what position encodings tied to absolute places cost; until then no token is read twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.generation.config import Sampling
from minigpt.generation.growing import GrowingText, Piece
from minigpt.generation.sampling import Draws, choose, penalised
from minigpt.generation.scoring import Scores, joined, score
from minigpt.model import GPT, DecodingState

LOOK = 16  # steps between two looks at what an accelerator has chosen: a look makes it wait
DRAWN = 256  # draws that are made at a time

Prompts = Tensor | Sequence[Sequence[int]]
Finish = Literal["length", "stop", "end"]


class Step(NamedTuple):
    """The next token of every row: tokens (B,) int64, on the model's device. scores: of them, when asked for."""

    tokens: Tensor
    scores: Scores | None


@dataclasses.dataclass(frozen=True)
class Continuation:
    """What one row went on with.

    tokens: those before a stop token; of a stop string, those that have a part in the text before it. text: up to the
    stop string, and pieces: what made it, when a tokenizer was given. finish: ``length`` (max_new_tokens are there),
    ``end`` (a stop token), ``stop`` (a stop string). scores: of the tokens, (T,) each, on the CPU, when asked for.
    """

    tokens: list[int]
    finish: Finish
    text: str | None = None
    pieces: tuple[Piece, ...] = ()
    scores: Scores | None = None


def generate(
    model: GPT,
    prompts: Prompts,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    seed: int | Sequence[int] = 0,
    *,
    vocab_size: int | None = None,
    stop_tokens: Collection[int] = (),
    stop: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
    alternatives: int | None = None,
    cached: bool = True,
) -> list[Continuation]:
    """Continue prompts until each row has ended, or has ``max_new_tokens``.

    stop_tokens: end a row, and are not in it. stop: strings that do, found in the text that ``tokenizer`` makes; rows
    go on without those that have ended. The other arguments are those of :func:`stream`, and so are its errors.
    """
    if stop and tokenizer is None:
        raise ValueError("stop strings are found in text: give a tokenizer")
    steps: list[Step] = []
    rows = [_Row(tokenizer, torch.as_tensor(prompt).tolist(), stop, frozenset(stop_tokens)) for prompt in prompts]
    arriving = stream(
        model, prompts, max_new_tokens, sampling, seed,
        vocab_size=vocab_size, alternatives=alternatives, cached=cached,
    )  # fmt: skip
    look = max_new_tokens if not (stop or stop_tokens) else 1 if model.device.type == "cpu" else LOOK
    unread: list[Tensor] = []
    for step in arriving:
        steps.append(step)
        unread.append(step.tokens)
        if len(unread) >= look:
            _read(unread, rows)
            unread = []
            if all(row.finish for row in rows):
                break
    _read(unread, rows)
    scored = [step.scores for step in steps if step.scores is not None]
    scores = joined(scored, dim=1) if scored else None
    return [row.continuation(scores, place) for place, row in enumerate(rows)]


@torch.no_grad()
def stream(
    model: GPT,
    prompts: Prompts,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    seed: int | Sequence[int] = 0,
    *,
    vocab_size: int | None = None,
    alternatives: int | None = None,
    cached: bool = True,
) -> Iterator[Step]:
    """Continue prompts, one token of every row at a time, ``max_new_tokens`` times.

    model: in eval mode. prompts: (B, T), or rows of unequal length, none empty; rows do not influence each other.
    sampling: None is Sampling(). seed: same seed, same tokens; one number, or one for each row, which then goes on as
    it would alone. vocab_size: only tokens below it are chosen (a model's vocabulary may be padded). alternatives:
    score each token, and name so many of the likeliest; None: no scores. cached: False reads the whole context at every
    step, for comparison. No step makes the host wait for the model's device.
    Raises ValueError for an empty prompt, a token the model does not have, or a model in training mode.
    """
    if model.training:
        raise ValueError("the model is in training mode, where dropout is random: call model.eval() first")
    sampling = Sampling() if sampling is None else sampling
    device, limit = model.device, model.spec.block_size
    recent, lengths = _left_padded(prompts, model.spec.vocab_size)
    chooser = torch.device("cpu") if device.type == "mps" else device  # where float64 exists
    draws = Draws(seed, len(lengths))
    seen = _seen(recent, lengths, vocab_size or model.spec.vocab_size).to(chooser) if _penalises(sampling) else None
    recent, lengths = recent[:, -limit:].to(device), [min(length, limit) for length in lengths]
    chosen: list[Tensor] = []  # after ``recent``
    state: DecodingState | None = None
    random = torch.empty(0)
    for step in range(max_new_tokens):
        if step % DRAWN == 0:
            random = draws.next(min(DRAWN, max_new_tokens - step)).to(chooser)
        if max(lengths) > limit:
            lengths, state = [max(1, limit // 2) if length > limit else length for length in lengths], None
        if state is None or not cached:
            recent = torch.cat([recent, *(tokens[:, None] for tokens in chosen)], dim=1)[:, -limit:]
            chosen = []
            state = _empty_state(model, lengths)
            read = recent[:, recent.shape[1] - max(lengths) :]
        else:
            read = chosen[-1][:, None]
        logits = model(read, state, last_only=True).logits[:, -1, :vocab_size].to(chooser)  # (B, V)
        if step == 0 and logits.isnan().any():
            raise UserError("the model's answer is no number (NaN): its weights are broken. Take another checkpoint")
        judged = logits if seen is None else penalised(logits, seen, sampling.repetition_penalty)
        tokens = choose(judged, sampling, random[:, step % DRAWN])
        if seen is not None:
            seen.scatter_(1, tokens[:, None], True)
        lengths = [length + 1 for length in lengths]
        chosen.append(tokens.to(device))
        yield Step(chosen[-1], None if alternatives is None else score(logits, tokens, alternatives))


class _Row:
    """One row while it is continued."""

    def __init__(
        self, tokenizer: Tokenizer | None, prompt: list[int], stop: Sequence[str], stop_tokens: frozenset[int]
    ):
        self._growing = None if tokenizer is None else GrowingText(tokenizer, prompt, stop)
        self._stop_tokens, self._tokens = stop_tokens, list[int]()
        self.finish: Finish | None = None

    def add(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            if self.finish:
                return
            if token in self._stop_tokens:
                self.finish = "end"
                return
            self._tokens.append(token)
            if self._growing is not None and self._growing.add(token):
                self.finish = "stop"

    def continuation(self, scores: Scores | None, place: int) -> Continuation:
        text, pieces, count, finish = None, tuple[Piece, ...](), len(self._tokens), self.finish
        if self._growing is not None:
            finish = "stop" if self._growing.finish() else finish
            text, pieces, count = self._growing.text, tuple(self._growing.pieces()), self._growing.tokens
        kept = None if scores is None else Scores(*(part[place, :count] for part in scores))
        return Continuation(self._tokens[:count], finish or "length", text, pieces, kept)


def _read(tokens: list[Tensor], rows: list[_Row]) -> None:
    """Give rows the tokens of some steps, fetched from the device at once."""
    if tokens:
        for row, new in zip(rows, torch.stack(tokens, dim=1).tolist(), strict=True):
            row.add(new)


def _penalises(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1


def _seen(tokens: Tensor, lengths: list[int], vocab_size: int) -> Tensor:
    """(B, V) bool: the tokens of each row, its padding left out."""
    real = torch.arange(tokens.shape[1]) >= tokens.shape[1] - torch.tensor(lengths)[:, None]
    rows, places = real.nonzero(as_tuple=True)
    found = tokens[rows, places]
    seen = torch.zeros(len(lengths), vocab_size, dtype=torch.bool)
    seen[rows[found < vocab_size], found[found < vocab_size]] = True
    return seen


def _empty_state(model: GPT, lengths: list[int]) -> DecodingState:
    padding = [max(lengths) - length for length in lengths]
    some = torch.tensor(padding, device=model.device) if any(padding) else None
    return model.new_state(len(lengths), padding=some)


def _left_padded(prompts: Prompts, vocab_size: int) -> tuple[Tensor, list[int]]:
    """Prompts as one (B, T) tensor, each row's own tokens ending at T, and the rows' lengths (B,)."""
    rows = [torch.as_tensor(row, dtype=torch.int64, device="cpu") for row in prompts]
    lengths = [len(row) for row in rows]
    if not all(lengths) or not lengths:
        raise ValueError("expected at least one prompt, and at least one token in each")
    tokens = pad_sequence(rows, batch_first=True, padding_side="left")
    if tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ValueError(f"a prompt has token {int(tokens.max())}; the model's are 0 to {vocab_size - 1}")
    return tokens, lengths
