"""Scores of a given text: one forward, or windows of one, equal to what plain forward calls say."""

from __future__ import annotations

import pytest
import torch

from minigpt.generation.scoring import score_text
from minigpt.model import GPT
from minigpt.testing import make_spec


@pytest.fixture(scope="module")
def model() -> GPT:
    return GPT.create(make_spec(tie_embeddings=False)).eval()  # block_size is 16


@pytest.mark.parametrize("length", [2, 3, 16, 17, 18, 25, 26, 60])
def test_a_text_is_scored_by_what_stands_before_each_token(model, length):
    tokens = torch.randint(0, 45, (length,), generator=torch.Generator().manual_seed(length))
    scores = score_text(model, tokens, vocab_size=45, alternatives=2)
    assert [part.shape for part in scores] == [(length - 1,)] * 3 + [(length - 1, 2)] * 2
    done = 0
    while done < length - 1:
        end = min(length - 1, 16 if not done else done + 8)
        start = max(0, end - 16)
        logits = model(tokens[None, start:end]).logits[0, done - start :, :45].log_softmax(dim=-1)
        expected = logits.gather(-1, tokens[done + 1 : end + 1, None])[:, 0]
        torch.testing.assert_close(scores.logprob[done:end], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scores.top_logprob[done:end], logits.topk(2).values, atol=1e-5, rtol=1e-5)
        done = end


def test_a_text_within_the_context_is_one_forward(model, monkeypatch):
    calls, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    score_text(model, torch.zeros(17, dtype=torch.int64))
    assert len(calls) == 1
    with pytest.raises(ValueError, match="two tokens"):
        score_text(model, torch.zeros(1, dtype=torch.int64))
