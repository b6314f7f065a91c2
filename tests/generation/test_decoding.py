"""Decoding: with the cache or without it, alone or in a batch, a row's tokens are the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from minigpt import registry
from minigpt.components.embedding.base import Embedding
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


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("parts", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_cache_changes_no_token_within_the_context_and_past_it(parts, sampling):
    model = build(**parts)
    tokens = generate(model, PROMPTS, 40, sampling, seed=1)  # block_size is 16
    assert torch.equal(tokens, generate(model, PROMPTS, 40, sampling, seed=1, cached=False))
    assert len({tuple(row.tolist()) for row in tokens}) >= 3  # and prompts do matter


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("parts", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_row_does_not_notice_its_padding_nor_the_rows_below_it(parts, sampling):
    model = build(**parts)
    together = generate(model, PROMPTS, 40, sampling, seed=3)
    for row in range(1, len(PROMPTS) + 1):
        fewer = generate(model, PROMPTS[:row], 40, sampling, seed=3)
        assert torch.equal(fewer, together[:row])
    if sampling is GREEDY:  # draws belong to a row's place; without them a row stands alone
        for row, prompt in enumerate(PROMPTS):
            assert torch.equal(generate(model, [prompt], 40, GREEDY)[0], together[row])


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
        registry.register("embedding", "factorised")(Factorised)
        model = GPT.create(make_spec(embedding="factorised")).eval()
        new = [torch.stack(list(stream(model, [[1, 2], [3]], 4, cached=cached))) for cached in (True, False)]
    assert torch.equal(*new)


def test_greedy_decoding_is_the_argmax_of_plain_forward_calls():
    model, context = build(), [5, 6, 7]
    expected = []
    for _ in range(40):
        if len(context) > 16:
            context = context[-8:]  # a full context goes on from its last half
        expected.append(int(model(torch.tensor([context])).logits[0, -1].argmax()))
        context.append(expected[-1])
    assert generate(model, [[5, 6, 7]], 40, GREEDY)[0].tolist() == expected


def test_a_prompt_longer_than_the_context_counts_by_its_last_tokens():
    model = build()
    long = torch.randint(0, 50, (1, 100), generator=torch.Generator().manual_seed(0))
    assert torch.equal(generate(model, long, 20, GREEDY), generate(model, long[:, -16:], 20, GREEDY))


def test_the_seed_alone_decides_the_tokens():
    model, prompt = build(), torch.tensor([[1, 2, 3]])
    torch.manual_seed(0)
    first = generate(model, prompt, 30, SEEDED, seed=5)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(generate(model, prompt, 30, SEEDED, seed=5), first)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's generator is touched
    assert not torch.equal(generate(model, prompt, 30, SEEDED, seed=6), first)
    assert torch.equal(generate(model, prompt, 10, SEEDED, seed=5), first[:, :10])


def test_equal_prompts_in_one_batch_get_different_samples():
    rows = generate(build(), torch.tensor([[1, 2, 3]]).expand(4, -1), 30, SEEDED)
    assert len({tuple(row.tolist()) for row in rows}) == 4


def test_tokens_arrive_one_by_one_and_leave_the_callers_gradients_on():
    arriving = stream(build(), [[1], [2]], 10_000, GREEDY)
    assert next(arriving).shape == (2,)
    assert torch.is_grad_enabled()


def test_a_cached_step_reads_only_the_new_token(monkeypatch):
    model, read = build(), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda t, *a, **k: read.append(t.shape[1]) or forward(t, *a, **k))
    generate(model, [[1, 2, 3]], 30, GREEDY)
    assert read == [3] + [1] * 13 + [8] + [1] * 8 + [8] + [1] * 6


def test_no_token_of_a_padded_vocabulary_is_chosen():
    model = build()
    assert (generate(model, [[1]], 200, Sampling(temperature=100.0))).max() >= 10
    assert (generate(model, [[1]], 200, Sampling(temperature=100.0), vocab_size=10)).max() < 10


def test_what_cannot_be_continued_is_refused():
    model = build()
    for prompts in ([[]], [], [[1], []], [[50]], [[-1]]):
        with pytest.raises(ValueError, match="prompt"):
            generate(model, prompts, 5)
    with pytest.raises(ValueError, match="training mode"):
        generate(model.train(), [[1]], 5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_no_numbers_are_blamed_and_not_the_tokenizer(temperature):
    model = GPT.create(make_spec()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(UserError, match="its weights are broken"):
        generate(model, [[1, 2]], 3, Sampling(temperature=temperature))
