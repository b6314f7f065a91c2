"""What the model itself thinks of tokens: how likely each was, which rank it had, how open the choice was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from minigpt.model import GPT

LOGITS = 1 << 26  # numbers of logits held at once while a text is scored: 256 MiB in float32


class Scores(NamedTuple):
    """Of each token, by the model's own distribution: before temperature, truncation and penalties.

    logprob: natural logarithm of its probability. rank: 1 is the likeliest. entropy: of the distribution, in bits.
    Each is of the tokens' shape. top, top_logprob: the likeliest tokens, best first: the tokens' shape and (K,).
    """

    logprob: Tensor
    rank: Tensor
    entropy: Tensor
    top: Tensor
    top_logprob: Tensor


def score(logits: Tensor, tokens: Tensor, alternatives: int = 0) -> Scores:
    """logits: (..., V) that ``tokens`` (...) were predicted by -> their Scores. alternatives: K of the likeliest."""
    logprobs = logits.float().log_softmax(dim=-1)
    chosen = logprobs.gather(-1, tokens[..., None])
    entropy = torch.special.entr(logprobs.exp()).sum(dim=-1) / math.log(2)
    top = logprobs.topk(min(alternatives, logits.shape[-1]), dim=-1)
    return Scores(chosen[..., 0], (logprobs > chosen).sum(dim=-1) + 1, entropy, top.indices, top.values)


def joined(steps: Sequence[Scores], dim: int) -> Scores:
    """Scores of several steps, side by side along a new dimension, on the CPU."""
    return Scores(*(torch.stack(parts, dim=dim).cpu() for parts in zip(*steps, strict=True)))


@torch.no_grad()
def score_text(model: GPT, tokens: Tensor, vocab_size: int | None = None, alternatives: int = 0) -> Scores:
    """The scores of ``tokens`` (T,) after the first: (T - 1,) each, on the CPU.

    One forward; a text longer than ``block_size`` is read in windows that each begin at least half a context before
    the first token they score. model: in eval mode. tokens: below vocab_size. Raises ValueError for fewer than two.
    """
    if len(tokens) < 2:
        raise ValueError("expected at least two tokens: the first has nothing before it")
    limit = model.spec.block_size
    ends = [*range(min(len(tokens) - 1, limit), len(tokens) - 1, max(1, limit // 2)), len(tokens) - 1]
    starts = [max(0, end - limit) for end in ends]
    windows = torch.stack([tokens[start : start + min(limit, len(tokens) - 1)] for start in starts])  # (W, T)
    targets = torch.stack([tokens[start + 1 : start + 1 + windows.shape[1]] for start in starts])
    rows = max(1, LOGITS // (windows.shape[1] * model.spec.vocab_size))
    found = []
    for some, following in zip(windows.split(rows), targets.split(rows), strict=True):
        logits = model(some.to(model.device)).logits[..., :vocab_size]
        scores = score(logits, following.to(model.device), alternatives)
        found += [Scores(*row) for row in zip(*scores, strict=True)]
    done, kept = 0, []
    for start, end, row in zip(starts, ends, found, strict=True):
        kept.append(Scores(*(part[done - start : end - start].cpu() for part in row)))
        done = end
    return Scores(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
