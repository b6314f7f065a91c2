"""What sample.py does: load a checkpoint, continue a prompt, print."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from minigpt.data.tokenizers import Tokenizer
from minigpt.device import choose_device
from minigpt.errors import UserError
from minigpt.exchange.trained import TrainedModel, load_trained
from minigpt.generation.config import SampleConfig
from minigpt.generation.decoding import generate, stream
from minigpt.generation.growing import GrowingText
from minigpt.screen import say

FILE = "FILE:"


def sample(config: SampleConfig) -> None:
    """Print ``num_samples`` continuations of the prompt, and on stderr how fast they came.

    Raises UserError for a checkpoint that is missing or torn, and for a prompt its vocabulary cannot express.
    """
    device = choose_device(config.device)
    trained = load_trained(config.checkpoint or "", device, plugins=config.plugins)
    model, tokenizer = trained.model, trained.tokenizer
    prompt = _prompt(config.start)
    tokens = _encode(prompt, tokenizer)
    began = time.perf_counter()
    if config.stream and config.num_samples == 1:
        arriving = stream(model, tokens, config.max_new_tokens, config, config.seed, vocab_size=tokenizer.vocab_size)
        print(prompt, end="", flush=True)
        for text in _texts((int(step.tokens) for step in arriving), tokens[0].tolist(), tokenizer):
            print(text, end="", flush=True)
        print()
    else:
        rows = tokens.expand(config.num_samples, -1)
        new = generate(
            model, rows, config.max_new_tokens, config, config.seed,
            vocab_size=tokenizer.vocab_size, tokenizer=tokenizer,
        )  # fmt: skip
        print("\n---------------\n".join(f"{prompt}{row.text}" for row in new))
    _report(config, trained, time.perf_counter() - began, device)


def _texts(tokens: Iterable[int], before: Sequence[int], tokenizer: Tokenizer) -> Iterator[str]:
    """The text of tokens as they come; a character whose bytes are spread over tokens waits for the last of them."""
    growing = GrowingText(tokenizer, before)
    for token in tokens:
        growing.add(token)
        yield from (piece.text for piece in growing.released())
    growing.finish()
    yield from (piece.text for piece in growing.released(last=True))


def _prompt(start: str) -> str:
    if not start.startswith(FILE):
        return start
    file = Path(start.removeprefix(FILE))
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"start: {file} cannot be read as text ({error})") from None


def _encode(prompt: str, tokenizer: Tokenizer) -> Tensor:
    """The prompt as tokens (1, T); an empty one is the token between documents, where there is one."""
    if prompt:
        try:
            return torch.as_tensor(tokenizer.encode(prompt).copy())[None]
        except UserError as error:
            raise UserError(f"start: {error}") from None
    if tokenizer.eot_token is None:
        raise UserError("start: is empty, and this tokenizer has no token to begin a text with. Give some text")
    return torch.tensor([[tokenizer.eot_token]])


def _report(config: SampleConfig, trained: TrainedModel, seconds: float, device: torch.device) -> None:
    count = config.num_samples * config.max_new_tokens
    meta = trained.meta
    known = [(key, meta[key]) for key in ("step", "val_loss") if key in meta]
    reached = ", ".join(f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}" for key, value in known)
    speed = f"{count} tokens in {seconds:.2f} s: {count / seconds:.0f} tokens/s on {device}"
    say(f"{speed}; {trained.folder} ({reached})", file=sys.stderr)
