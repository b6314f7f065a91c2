"""Decoding: with the cache or without it, alone or in a batch, a row's tokens are the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from minigpt import registry
from minigpt.components.embedding.base import Embedding
from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import UserError
from minigpt.generation.config import Sampling
from minigpt.generation.decoding import generate, stream
from minigpt.model import GPT
from minigpt.testing import make_spec

GREEDY = Sampling(temperature=0)
SEEDED = Sampling(temperature=1.3, top_k=20, top_p=0.95)
ARCHITECTURES = {
    "house": {},
    "gpt2": {"position": "learned", "norm": "layernorm", "mlp": "mlp", "activation": "gelu", "bias": True},
    "gqa, window, consmax": {"attention": {"name": "causal", "n_kv_head": 2, "window": 5}, "softmax": "consmax"},
    "alibi": {"position": "alibi"},
    "linear": {"attention": "linear", "position": "nope"},
    "no attention": {"attention": "identity", "position": "learned"},
}
PROMPTS = [[1, 2, 3], [7], [4, 9, 2, 6, 11, 3, 8, 40, 41, 0, 5], [3, 3, 3, 3, 3]]


def build(**parts) -> GPT:
    """A small model whose next token depends on all before it: large weights, a head of its own."""
    model = GPT.create(make_spec(tie_embeddings=False, **parts)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
    return model


def tokens_of(*arguments, **options) -> torch.Tensor:
    """The new tokens, (B, T)."""
    return torch.tensor([row.tokens for row in generate(*arguments, **options)])


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("parts", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_cache_changes_no_token_within_the_context_and_past_it(parts, sampling):
    model = build(**parts)
    tokens = tokens_of(model, PROMPTS, 40, sampling, seed=1)  # block_size is 16
    assert torch.equal(tokens, tokens_of(model, PROMPTS, 40, sampling, seed=1, cached=False))
    assert len({tuple(row.tolist()) for row in tokens}) >= 3  # and prompts do matter


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("parts", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_row_does_not_notice_its_padding_nor_the_rows_below_it(parts, sampling):
    model = build(**parts)
    together = tokens_of(model, PROMPTS, 40, sampling, seed=3)
    for row in range(1, len(PROMPTS) + 1):
        fewer = tokens_of(model, PROMPTS[:row], 40, sampling, seed=3)
        assert torch.equal(fewer, together[:row])
    if sampling is GREEDY:  # draws belong to a row's place; without them a row stands alone
        for row, prompt in enumerate(PROMPTS):
            assert torch.equal(tokens_of(model, [prompt], 40, GREEDY)[0], together[row])


class Factorised(Embedding):
    """Two small tables in place of one."""

    def __init__(self, config, ctx):
        super().__init__()
        self.table = nn.Parameter(torch.empty(ctx.vocab_size, 4))
        self.up = ctx.linear(4, ctx.d_model, site="up")

    def init_parameters(self, init):
        init.matrix(self.table, "embedding", fan_in=4)

    def forward(self, tokens, call, state=None):
        return self.up(self.table[tokens])

    def unembed(self, x):
        return x @ self.up.weight @ self.table.T


def test_an_embedding_that_is_no_table_is_continued_too():
    with registry.forgotten_afterwards():
        registry.register("embedding", "no_table")(Factorised)
        model = GPT.create(make_spec(embedding="no_table")).eval()
        new = [tokens_of(model, [[1, 2], [3]], 4, cached=cached) for cached in (True, False)]
    assert torch.equal(*new)


def test_greedy_decoding_is_the_argmax_of_plain_forward_calls():
    model, context = build(), [5, 6, 7]
    expected = []
    for _ in range(40):
        if len(context) > 16:
            context = context[-8:]  # a full context goes on from its last half
        expected.append(int(model(torch.tensor([context])).logits[0, -1].argmax()))
        context.append(expected[-1])
    assert tokens_of(model, [[5, 6, 7]], 40, GREEDY)[0].tolist() == expected


def test_a_prompt_longer_than_the_context_counts_by_its_last_tokens():
    model = build()
    long = torch.randint(0, 50, (1, 100), generator=torch.Generator().manual_seed(0))
    assert torch.equal(tokens_of(model, long, 20, GREEDY), tokens_of(model, long[:, -16:], 20, GREEDY))


def test_the_seed_alone_decides_the_tokens():
    model, prompt = build(), torch.tensor([[1, 2, 3]])
    torch.manual_seed(0)
    first = tokens_of(model, prompt, 30, SEEDED, seed=5)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(tokens_of(model, prompt, 30, SEEDED, seed=5), first)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's generator is touched
    assert not torch.equal(tokens_of(model, prompt, 30, SEEDED, seed=6), first)
    assert torch.equal(tokens_of(model, prompt, 10, SEEDED, seed=5), first[:, :10])


def test_equal_prompts_in_one_batch_get_different_samples():
    rows = tokens_of(build(), torch.tensor([[1, 2, 3]]).expand(4, -1), 30, SEEDED)
    assert len({tuple(row.tolist()) for row in rows}) == 4


def test_tokens_arrive_one_by_one_and_leave_the_callers_gradients_on():
    arriving = stream(build(), [[1], [2]], 10_000, GREEDY)
    assert next(arriving).tokens.shape == (2,)
    assert torch.is_grad_enabled()


def test_a_cached_step_reads_only_the_new_token(monkeypatch):
    model, read = build(), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda t, *a, **k: read.append(t.shape[1]) or forward(t, *a, **k))
    tokens_of(model, [[1, 2, 3]], 30, GREEDY)
    assert read == [3] + [1] * 13 + [8] + [1] * 8 + [8] + [1] * 6


def test_no_token_of_a_padded_vocabulary_is_chosen():
    model = build()
    assert (tokens_of(model, [[1]], 200, Sampling(temperature=100.0))).max() >= 10
    assert (tokens_of(model, [[1]], 200, Sampling(temperature=100.0), vocab_size=10)).max() < 10


def test_what_cannot_be_continued_is_refused():
    model = build()
    for prompts in ([[]], [], [[1], []], [[50]], [[-1]]):
        with pytest.raises(ValueError, match="prompt"):
            generate(model, prompts, 5)
    with pytest.raises(ValueError, match="training mode"):
        tokens_of(model.train(), [[1]], 5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_no_numbers_are_blamed_and_not_the_tokenizer(temperature):
    model = GPT.create(make_spec()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(UserError, match="its weights are broken"):
        tokens_of(model, [[1, 2]], 3, Sampling(temperature=temperature))


def test_a_stop_token_ends_its_row_alone_and_is_not_in_it():
    model = build()
    whole = generate(model, PROMPTS, 40, SEEDED, seed=2)
    ends = {row.tokens[n] for row, n in zip(whole[:2], (5, 20), strict=True)}
    rows = generate(model, PROMPTS, 40, SEEDED, seed=2, stop_tokens=ends)
    for row, free in zip(rows, whole, strict=True):
        place = next((n for n, token in enumerate(free.tokens) if token in ends), 40)
        assert row.tokens == free.tokens[:place]
        assert row.finish == ("end" if place < 40 else "length")


def test_a_stop_string_ends_its_row_and_the_others_go_on():
    model, tokenizer = build(), CharTokenizer("".join(map(chr, range(97, 147))))
    whole = generate(model, PROMPTS, 40, SEEDED, seed=2, tokenizer=tokenizer)
    stop = whole[0].text[7:10]
    rows = generate(model, PROMPTS, 40, SEEDED, seed=2, tokenizer=tokenizer, stop=[stop], alternatives=3)
    for row, free in zip(rows, whole, strict=True):
        assert row.text == free.text.partition(stop)[0]
        assert row.finish == ("stop" if stop in free.text else "length")
        assert len(row.tokens) == len(row.text) == len(row.scores.logprob)
    assert [row.finish for row in rows].count("stop") < len(rows)
    with pytest.raises(ValueError, match="give a tokenizer"):
        generate(model, PROMPTS, 5, stop=["x"])


def test_no_step_is_made_when_every_row_has_ended(monkeypatch):
    model, steps = build(), []
    end = generate(model, [[1, 2]], 4, GREEDY)[0].tokens[2]
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **k: steps.append(1) or forward(*a, **k))
    generate(model, [[1, 2]], 1000, GREEDY, stop_tokens=[end])
    assert len(steps) <= 3


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a device: a tensor's value that is asked for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.2)])
def test_no_step_makes_the_host_wait(sampling):
    arriving = stream(build(), PROMPTS, 40, sampling, alternatives=3)
    next(arriving)
    with Waits() as waits:
        steps = [next(arriving) for _ in range(39)]  # past the context, too
    assert waits.count == 0
    with Waits() as waits:
        steps[0].tokens.tolist(), int(steps[0].tokens[0])
    assert waits.count > 0


def test_scores_are_the_models_own_whatever_is_drawn_from():
    model = build()
    sampling = Sampling(temperature=2.0, top_k=30, repetition_penalty=1.5)
    for row, prompt in zip(generate(model, PROMPTS, 4, sampling, alternatives=3), PROMPTS, strict=True):
        logits = model(torch.tensor([prompt + row.tokens])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(dim=-1)
        own = expected[torch.arange(4), row.tokens]
        torch.testing.assert_close(row.scores.logprob, own, atol=1e-4, rtol=1e-4)
        assert row.scores.rank.tolist() == [int((e > o).sum()) + 1 for e, o in zip(expected, own, strict=True)]
        entropy = torch.distributions.Categorical(logits=logits).entropy() / math.log(2)
        torch.testing.assert_close(row.scores.entropy, entropy, atol=1e-4, rtol=1e-4)
        assert torch.equal(row.scores.top, expected.topk(3).indices)


def test_a_row_with_a_seed_of_its_own_goes_on_as_it_would_alone():
    model = build()
    rows = tokens_of(model, [*PROMPTS, PROMPTS[0], PROMPTS[0]], 30, SEEDED, seed=[4, 4, 4, 4, 5, 4])
    assert torch.equal(rows[0], rows[5])
    assert not torch.equal(rows[0], rows[4])
    for prompt, row in zip(PROMPTS, rows, strict=False):
        assert torch.equal(tokens_of(model, [prompt], 30, SEEDED, seed=4)[0], row)


def test_the_penalty_knows_prompt_and_new_tokens_past_the_context():
    model, penalty = build(), Sampling(temperature=0, repetition_penalty=100)  # no token twice, while there are others
    row = tokens_of(model, [[1, 2, 3]], 40, penalty)[0].tolist()
    positive_again = [token for place, token in enumerate(row) if token in row[:place] or token in (1, 2, 3)]
    assert positive_again == []
    batch = tokens_of(model, PROMPTS, 30, penalty)
    for place, prompt in enumerate(PROMPTS):
        assert torch.equal(tokens_of(model, [prompt], 30, penalty)[0], batch[place])
