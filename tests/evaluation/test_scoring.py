"""Log-probabilities: shared contexts, batches and cut-off contexts change nothing; memory decides the batch."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from minigpt.errors import UserError
from minigpt.evaluation.scoring import InterruptedScoringError, Scorer
from tests.evaluation.conftest import random_gpt

VARIANTS = {
    "rope": {},
    "learned": {"position": "learned"},
    "alibi": {"position": "alibi"},
    "window": {"attention": {"name": "causal", "window": 6, "n_kv_head": 2}},
    "linear": {"attention": "linear"},
}
LIMIT = 24


def requests(seed: int = 0, count: int = 30) -> list[tuple[list[int], list[int]]]:
    """Contexts shorter and longer than the model's, each with one to four continuations, some of them twice."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        context = [draw.randrange(50) for _ in range(draw.randrange(1, LIMIT + 10))]
        for _ in range(draw.choice([1, 2, 4])):
            found.append((context, [draw.randrange(50) for _ in range(draw.choice([1, 1, 3, 9, LIMIT]))]))
    return [*found, *found[:5]]


def one_by_one(model, asked):
    """By the definition: every token's log-probability after as much as fits before it."""
    answers = []
    for context, continuation in asked:
        tokens = torch.tensor([*context, *continuation][-(LIMIT + 1) :])
        with torch.no_grad():
            logits = model(tokens[None, :-1]).logits[0, -len(continuation) :]
        nats = logits.log_softmax(-1).gather(1, tokens[-len(continuation) :, None]).sum()
        answers.append((float(nats), bool((logits.argmax(-1) == tokens[-len(continuation) :]).all())))
    return answers


def assert_same(found, expected):
    assert [each.greedy for each in found] == [greedy for _, greedy in expected]
    torch.testing.assert_close([each.total for each in found], [total for total, _ in expected], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("parts", VARIANTS.values(), ids=VARIANTS)
def test_shared_contexts_give_what_reading_each_alone_gives(parts):
    model, asked = random_gpt(50, LIMIT, **parts), requests()
    expected = one_by_one(model, asked)
    shared, plain = Scorer(model), Scorer(model, share=False)
    assert shared.share
    assert_same(shared(asked), expected)
    assert_same(plain(asked), expected)
    assert_same(Scorer(model, 1)(asked), expected)


def test_a_context_is_read_once_for_all_its_continuations():
    model, context = random_gpt(50, 48), list(range(40))
    asked = [(context, [1, 2, 3, 4]), (context, [2, 3, 4, 5]), (context, [7]), (context, [8]), (context, [9, 9])]
    shared, plain = Scorer(model), Scorer(model, share=False)
    assert_same(shared(asked), [(a.total, a.greedy) for a in plain(asked)])
    assert shared.tokens == 40 + 3 * 3  # and what follows, but for the last tokens, padded to the longest
    assert plain.tokens == 3 * 43  # continuations of one token share a row, here the beginning of the others


def test_a_text_that_another_begins_with_is_answered_on_the_way():
    model, text = random_gpt(50, 48), [i * 7 % 50 for i in range(40)]
    asked = [(text[:end], text[end : end + 2]) for end in (1, 5, 9, 20, 30)] + [([3], text[:10])]
    scorer = Scorer(model)
    assert_same(scorer(asked), [(a.total, a.greedy) for request in asked for a in Scorer(model)([request])])
    assert scorer.tokens <= 2 * 31


def test_greedy_is_told_by_every_token():
    model = random_gpt(50, LIMIT)
    text = [5]
    for _ in range(6):
        text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
    other = [*text[:-1], (text[-1] + 1) % 50]
    found = Scorer(model)([(text[:1], text[1:]), (text[:1], other[1:]), (text[:3], text[3:])])
    assert [each.greedy for each in found] == [True, False, True]


def test_a_continuation_longer_than_the_context_is_asked_piece_by_piece():
    model, text = random_gpt(50, LIMIT), [i * 7 % 50 for i in range(60)]
    whole = Scorer(model)([(text[:1], text[1:])])[0]
    cuts = [1, 1 + LIMIT, 1 + 2 * LIMIT, 60]
    pieces = one_by_one(model, [(text[:a], text[a:b]) for a, b in itertools.pairwise(cuts)])
    torch.testing.assert_close(whole.total, sum(total for total, _ in pieces), rtol=1e-5, atol=1e-5)


class Narrow(torch.nn.Module):
    """A model on a machine that holds so many rows at a time."""

    def __init__(self, model, rows):
        super().__init__()
        self.model, self.rows, self.seen = model, rows, []
        self.spec, self.device, self.new_state = model.spec, model.device, model.new_state

    def forward(self, tokens, *args, **kwargs):
        self.seen.append(len(tokens))
        if len(tokens) > self.rows:
            raise torch.OutOfMemoryError("tried to allocate everything")
        return self.model(tokens, *args, **kwargs)


def test_batches_are_halved_until_they_fit_into_memory():
    model = random_gpt(50, LIMIT)
    narrow, asked = Narrow(model, 5), requests(1)
    assert_same(Scorer(narrow)(asked), one_by_one(model, asked))
    assert max(narrow.seen) > 5
    tried = [rows for rows in narrow.seen if rows > 5]
    assert len(tried) < 10


def test_a_batch_size_that_does_not_fit_is_said():
    model = Narrow(random_gpt(50, LIMIT), 5)
    with pytest.raises(UserError, match=r"32 rows of .* do not fit into memory\. Take a smaller batch_size"):
        Scorer(model, 32, share=False)([([1], [i % 50, i // 50]) for i in range(100)])
    with pytest.raises(UserError, match="Take a shorter context"):
        Scorer(Narrow(model.model, 0))([([1], [2, 3])])


def test_another_error_is_not_taken_for_a_lack_of_memory():
    with pytest.raises(IndexError):
        Scorer(random_gpt(50, LIMIT))([([1], [500, 2])])


def test_it_can_be_given_up():
    asked = iter([False, False, True])
    with pytest.raises(InterruptedScoringError):
        Scorer(random_gpt(50, LIMIT), 1, give_up=lambda: next(asked))(requests())


def test_broken_weights_are_said():
    model = random_gpt(50, LIMIT)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="NaN"):
        Scorer(model)([([1], [2])])
