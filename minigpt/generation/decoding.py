"""Token by token: a prompt is read once (prefill), then each step reads one token and remembers it in the state.

A row has the context the model was built for, ``block_size`` tokens. When it has filled that, it goes on from the
last half of its context, read once more (the other rows keep all of theirs). That one prefill per ``block_size / 2``
tokens is what position encodings tied to absolute places cost; until then no token is read twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minigpt.errors import UserError
from minigpt.generation.config import Sampling
from minigpt.generation.sampling import choose, draws
from minigpt.model import GPT, DecodingState


def generate(
    model: GPT,
    prompts: Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    seed: int = 0,
    *,
    vocab_size: int | None = None,
    cached: bool = True,
) -> Tensor:
    """Continue prompts; returns the new tokens, (B, max_new_tokens) int64, on its device: see :func:`stream`."""
    steps = list(stream(model, prompts, max_new_tokens, sampling, seed, vocab_size=vocab_size, cached=cached))
    return torch.stack(steps, dim=1)


@torch.no_grad()
def stream(
    model: GPT,
    prompts: Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    seed: int = 0,
    *,
    vocab_size: int | None = None,
    cached: bool = True,
) -> Iterator[Tensor]:
    """Continue prompts, one token of every row at a time: yields (B,) int64, ``max_new_tokens`` times.

    model: in eval mode. prompts: (B, T), or rows of unequal length, none empty; rows do not influence each other.
    sampling: None is Sampling(). seed: same seed, same tokens. vocab_size: only tokens below it are chosen (a model's
    vocabulary may be padded). cached: False reads the whole context at every step, for comparison.
    Raises ValueError for an empty prompt, a token the model does not have, or a model in training mode.
    """
    if model.training:
        raise ValueError("the model is in training mode, where dropout is random: call model.eval() first")
    sampling = Sampling() if sampling is None else sampling
    device, limit = model.device, model.spec.block_size
    tokens, lengths = _left_padded(prompts, max_new_tokens, model.spec.vocab_size)
    chooser = torch.device("cpu") if device.type == "mps" else device  # where float64 exists
    random, tokens = draws(seed, len(lengths), max_new_tokens).to(chooser), tokens.to(device)
    lengths = lengths.clamp_max(limit)  # of each row's context, on the CPU: no step waits for the device
    state: DecodingState | None = None
    for step, end in enumerate(range(tokens.shape[1] - max_new_tokens, tokens.shape[1])):
        full = lengths > limit
        if full.any():
            lengths, state = torch.where(full, max(1, limit // 2), lengths), None
        if state is None or not cached:
            state = _empty_state(model, lengths)
            read = tokens[:, end - int(lengths.max()) : end]
        else:
            read = tokens[:, end - 1 : end]
        logits = model(read, state, last_only=True).logits[:, -1, :vocab_size].to(chooser)  # (B, V)
        if step == 0 and logits.isnan().any():
            raise UserError("the model's answer is no number (NaN): its weights are broken. Take another checkpoint")
        tokens[:, end] = choose(logits, sampling, random[:, step])
        lengths = lengths + 1
        yield tokens[:, end]


def _empty_state(model: GPT, lengths: Tensor) -> DecodingState:
    padding = lengths.max() - lengths
    some = bool(padding.any())
    return model.new_state(len(lengths), padding=padding.to(model.device) if some else None)


def _left_padded(prompts: Tensor | Sequence[Sequence[int]], room: int, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Prompts as one (B, T + room) tensor, each row's own tokens ending at T, and the rows' lengths (B,)."""
    rows = [torch.as_tensor(row, dtype=torch.int64, device="cpu") for row in prompts]
    lengths = torch.tensor([len(row) for row in rows])
    if not len(rows) or not lengths.all():
        raise ValueError("expected at least one prompt, and at least one token in each")
    tokens = pad_sequence(rows, batch_first=True, padding_side="left")
    if tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ValueError(f"a prompt has token {int(tokens.max())}; the model's are 0 to {vocab_size - 1}")
    return torch.nn.functional.pad(tokens, (0, room)), lengths
