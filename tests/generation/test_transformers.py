"""Greedy output equals ``transformers`` generate: alone, in a left-padded batch, with a repetition penalty."""

from __future__ import annotations

import pytest
import torch

from minigpt.exchange.trained import load_trained
from minigpt.generation.config import Sampling
from minigpt.generation.decoding import generate
from tests.exchange import families

PROMPTS = [[5, 9, 2], [7], [1, 4, 4, 8, 30, 2, 11, 6], [12, 13, 14, 15]]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def pair(request, tmp_path_factory):
    """A model of transformers, and ours as it is loaded from its folder."""
    theirs = families.make(request.param)
    folder = families.save(theirs, tmp_path_factory.mktemp("greedy") / request.param)
    return theirs, load_trained(folder)


@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_tokens_equal_transformers_generate(pair, penalty):
    theirs, ours = pair
    room = ours.model.spec.block_size - max(map(len, PROMPTS))
    longest = max(map(len, PROMPTS))
    tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "repetition_penalty": penalty}
    expected = [
        theirs.generate(torch.tensor([prompt]), max_new_tokens=room, **options)[0, len(prompt) :].tolist()
        for prompt in PROMPTS
    ]
    sampling = Sampling(temperature=0, repetition_penalty=penalty)
    rows = generate(ours.model, PROMPTS, room, sampling, vocab_size=theirs.config.vocab_size)
    assert [row.tokens for row in rows] == expected
    assert len({tuple(row) for row in expected}) > 1
    for prompt, row in zip(PROMPTS, expected, strict=True):
        alone = generate(ours.model, [prompt], room, sampling, vocab_size=theirs.config.vocab_size)
        assert alone[0].tokens == row
    if penalty == 1.0:  # theirs counts padding among the tokens that a text has
        padded = theirs.generate(tokens, attention_mask=mask, max_new_tokens=room, **options)[:, longest:]
        assert padded.tolist() == expected
