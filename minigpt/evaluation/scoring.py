"""How likely continuations are after their contexts: many requests, few passes through the model.

A context that several continuations share is read once: its state is copied for each of them. Continuations that
differ in their last token alone share a row, and a row that another one begins with is answered on the way. Rows go
through the model longest first. None of it changes a result beyond rounding.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minigpt.errors import UserError
from minigpt.evaluation.batches import Batches
from minigpt.model import GPT, DecodingState

SHARED_FROM = 8
"""Tokens of a context from which on two passes, over it and then over what follows, can be faster than one."""

LARGEST_FAMILY = 64
"""Rows that one state is copied for at a time."""


class Likelihood(NamedTuple):
    """total: log-probability in nats. greedy: whether every token of the continuation is the likeliest one."""

    total: float
    greedy: bool


class InterruptedScoringError(Exception):
    """Somebody has asked for an end in the middle."""


@dataclasses.dataclass(frozen=True)
class Row:
    """tokens: what the model reads. answers: (place of the request, its continuation, how many of the tokens are its
    own): the continuation ends one token later."""

    tokens: tuple[int, ...]
    answers: list[tuple[int, tuple[int, ...], int]]


@dataclasses.dataclass(frozen=True)
class Family:
    """Rows that begin with the same ``context``; what each holds beyond it is in ``rows``, and may be nothing."""

    context: tuple[int, ...]
    rows: list[Row]

    @property
    def length(self) -> int:
        """Tokens that it takes up in a batch."""
        return len(self.context) + sum(len(row.tokens) for row in self.rows)


class Scorer:
    """Log-probabilities by one model, which must be in eval mode.

    share: whether contexts are read once for all their continuations. passes, tokens: how much has gone through the
    model, padding included. give_up: asked before every batch.
    """

    def __init__(
        self,
        model: GPT,
        batch_size: int | None = None,
        *,
        largest: int | None = None,
        share: bool = True,
        give_up: Callable[[], bool] = lambda: False,
    ):
        self.model, self.device, self.limit = model, model.device, model.spec.block_size
        self.batches = Batches(batch_size, self.device, 4 * model.spec.vocab_size, largest)
        self.share = share and model.new_state(1, 1).can_select
        self.give_up = give_up
        self.passes = self.tokens = 0

    @torch.no_grad()
    def __call__(
        self,
        requests: Sequence[tuple[Sequence[int], Sequence[int]]],
        told: Callable[[int, Likelihood], None] = lambda number, likelihood: None,
    ) -> list[Likelihood]:
        """requests: (context, continuation), neither of them empty -> one Likelihood each, in the same order.

        told: of each as it comes, with the number of its request. Where both do not fit into the model's context, the
        left end is cut off; a continuation that alone does not fit is asked for piece by piece. Raises
        InterruptedScoringError when ``give_up`` says so.
        """
        found: dict[int, Likelihood] = {}
        pieces = [piece for number, request in enumerate(requests) for piece in self._pieces(number, *request)]
        missing = Counter(number for number, _, _ in pieces)
        families, rows = self._arranged(pieces)
        rows.sort(key=lambda row: (-len(row.tokens), row.tokens))
        families.sort(key=lambda family: (-len(family.context), -family.length, family.context))

        def score(
            batch: Sequence[Family] | Sequence[Row], how: Callable[[Any], tuple[int, dict[int, Likelihood]]]
        ) -> int:
            if self.give_up():
                raise InterruptedScoringError
            done, answers = how(batch)
            for place, likelihood in answers.items():
                number = pieces[place][0]
                found[number] = _joined(likelihood, found.get(number))
                missing[number] -= 1
                if not missing[number]:
                    told(number, found[number])
            return done

        self.batches.run(
            families,
            lambda family: family.length,
            lambda batch: score(batch, self._score_families),
            lambda family: len(family.rows),
        )
        self.batches.run(rows, lambda row: len(row.tokens), lambda batch: score(batch, self._score_rows))
        return [found[number] for number in range(len(requests))]

    def _pieces(
        self, number: int, context: Sequence[int], continuation: Sequence[int]
    ) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """(number, context, continuation) such that each continuation fits into the model's context."""
        context, continuation = tuple(context), tuple(continuation)
        if not context or not continuation:
            raise ValueError("expected at least one token of context, and one of continuation")
        for start in range(0, len(continuation), self.limit):
            yield number, context + continuation[:start], continuation[start : start + self.limit]

    def _arranged(
        self, pieces: Sequence[tuple[int, tuple[int, ...], tuple[int, ...]]]
    ) -> tuple[list[Family], list[Row]]:
        """The requests as families, where sharing a context saves work, and as single rows."""
        by_context: dict[tuple[int, ...], dict[tuple[int, ...], Row]] = {}
        single: dict[tuple[int, ...], Row] = {}
        for place, (_, context, continuation) in enumerate(pieces):
            whole = (context + continuation)[-(self.limit + 1) :]
            fits = len(whole) == len(context) + len(continuation)
            places = by_context.setdefault(context, {}) if fits and self.share else single
            row = whole[:-1]
            places.setdefault(row, Row(row, [])).answers.append((place, continuation, len(row)))
        families = []
        for context, members in by_context.items():
            if self._is_shared(len(context), list(members)):
                rest = [Row(row.tokens[len(context) :], row.answers) for row in members.values()]
                rest.sort(key=lambda row: (-len(row.tokens), row.tokens))
                families += [Family(context, rest[i : i + LARGEST_FAMILY]) for i in range(0, len(rest), LARGEST_FAMILY)]
            else:
                for tokens, member in members.items():
                    single.setdefault(tokens, Row(tokens, [])).answers.extend(member.answers)
        return families, _absorbed(single.values())

    def _is_shared(self, context: int, rows: list[tuple[int, ...]]) -> bool:
        """Whether reading a context apart saves more than a tenth: tokens read twice, and logits nobody asks for."""
        if context < SHARED_FROM:
            return False
        spec = self.model.spec
        body, head = 12 * spec.n_layer * spec.d_model, spec.vocab_size  # products per token and d_model, roughly
        once = context * body + sum(len(row) - context for row in rows) * (body + head) + head
        apart = sum(len(row) for row in rows) * (body + head)
        return once < 0.9 * apart

    def _score_rows(self, batch: Sequence[Row]) -> tuple[int, dict[int, Likelihood]]:
        """Each row whole; how many were done, and their answers. Padding is at the right, where a causal model does not
        see it."""
        logits = self._forward(_padded([row.tokens for row in batch]))  # (B, T, V)
        questions = [
            (number, continuation, place, own - len(continuation))
            for place, row in enumerate(batch)
            for number, continuation, own in row.answers
        ]
        return len(batch), self._answers(questions, logits)

    def _score_families(self, batch: Sequence[Family]) -> tuple[int, dict[int, Likelihood]]:
        """All contexts in one pass, padded at the left, then all that follows in another. How many families were done,
        which together may be longer than the model's context, and their answers."""
        widest = len(batch[0].context)
        rests = itertools.accumulate((len(family.rows[0].tokens) for family in batch), max)
        reaches = [widest + rest for rest in rests if widest + rest <= self.limit]
        batch = batch[: len(reaches)]
        padding = torch.tensor([widest - len(family.context) for family in batch], device=self.device)
        state = self.model.new_state(len(batch), reaches[-1], padding if padding.any() else None)
        contexts = _padded([family.context for family in batch], side="left")
        first = self._forward(contexts, state, last_only=True)  # (B, 1, V)

        rows = [(place, row) for place, family in enumerate(batch) for row in family.rows]
        heads = self._answers([(n, said[:1], place, 0) for place, row in rows for n, said, _ in row.answers], first)
        longer = [(place, row) for place, row in rows if row.tokens]
        tails = {}
        if longer:
            selected = state.select(torch.tensor([place for place, _ in longer], device=self.device))
            after = self._forward(_padded([row.tokens for _, row in longer]), selected)  # (N, T, V)
            asked = [(n, said[1:], line, 0) for line, (_, row) in enumerate(longer) for n, said, _ in row.answers]
            tails = self._answers(asked, after)
        joined = {n: _joined(head, tails.get(n)) for n, head in heads.items()}
        return len(batch), joined

    def _answers(
        self, questions: Sequence[tuple[int, tuple[int, ...], int, int]], logits: Tensor
    ) -> dict[int, Likelihood]:
        """questions: (number, tokens, place in the batch, time at which the first of them is foretold)."""
        lengths = [len(tokens) for _, tokens, _, _ in questions]
        asked = torch.tensor([t for _, tokens, _, _ in questions for t in tokens], device=self.device)
        places = torch.tensor([p for _, tokens, p, _ in questions for _ in tokens], device=self.device)
        times = torch.tensor([s + i for _, tokens, _, s in questions for i in range(len(tokens))], device=self.device)
        chosen = logits[places, times].float()  # (asked tokens, V)
        highest, likeliest_token = chosen.max(dim=-1)
        said = chosen.gather(1, asked[:, None])[:, 0] - highest
        nats = (
            (said - chosen.sub_(highest[:, None]).exp_().sum(dim=-1).log()).double().cpu()
        )  # in place: V may be large
        if nats.isnan().any():
            raise UserError("the model's answer is no number (NaN): its weights are broken. Take another checkpoint")
        likeliest = (likeliest_token == asked).cpu()
        parts = zip(questions, nats.split(lengths), likeliest.split(lengths), strict=True)
        return {number: Likelihood(float(each.sum()), bool(right.all())) for (number, *_), each, right in parts}

    def _forward(self, tokens: Tensor, state: DecodingState | None = None, *, last_only: bool = False) -> Tensor:
        self.passes += 1
        self.tokens += tokens.numel()
        return self.model(tokens.to(self.device), state, last_only=last_only).logits


def _absorbed(rows: Iterable[Row]) -> list[Row]:
    """The rows but for those that another begins with, whose answers that one gives on the way."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: row.tokens, reverse=True):  # what begins with a row comes right before it
        if kept and kept[-1].tokens[: len(row.tokens)] == row.tokens:
            kept[-1].answers.extend(row.answers)
        else:
            kept.append(row)
    return kept


def _joined(head: Likelihood, tail: Likelihood | None) -> Likelihood:
    return head if tail is None else Likelihood(head.total + tail.total, head.greedy and tail.greedy)


def _padded(rows: Sequence[Sequence[int]], side: str = "right") -> Tensor:
    """(B, T) int64, zeros where a row has nothing."""
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True, padding_side=side)
