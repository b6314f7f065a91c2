"""Small models that contracts share, and the ways they are run: batches, numbers, chunks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt import registry
from minigpt.model import GPT, ModelSpec
from minigpt.testing.cases import Case

VOCAB, SHORT, LONG = 50, 16, 80
"""SHORT and LONG: tokens of a sequence, below and above the 64 at which chunks and tiles of many variants end."""
SIZES: dict[str, Any] = {"vocab_size": VOCAB, "block_size": LONG, "bias": True, "dropout": 0.1}


@functools.lru_cache(maxsize=6)
def moved_model(case: Case, dtype: torch.dtype = torch.float64, bias: bool = True) -> GPT:
    """A model whose parameters are off their special first values (zeros, ones), the same each time. Leave it as it is.

    fp64 where two orders of summation are compared: a variant that rounds (quantisation) is not continuous, so in fp32
    two sums may fall on two sides of a step, and a tolerance that forgives this would forgive a real difference too.
    """
    return moved(create(case.spec(**SIZES | {"bias": bias, "tie_embeddings": bias}))).to(dtype).eval()


def create(spec: ModelSpec) -> GPT:
    """A model with its first values; transforms that rewrite weights get those of the model without them."""
    if not any(registry.get("transform", each.name).needs_weights for each in spec.transforms):
        return GPT.create(spec)
    weights = GPT.create(dataclasses.replace(spec, transforms=())).state_dict()
    for transform in spec.transforms:
        weights = registry.build(transform).convert(weights)
    model = GPT.create(
        spec, initialise=frozenset(name for name in GPT.on_meta(spec).state_dict() if name not in weights)
    )
    model.load_state_dict(weights, strict=False)
    return model


def moved(model: GPT) -> GPT:
    """Add noise to every parameter, in place: large enough to matter beside any first value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def batch(rows: int = 3, tokens: int = SHORT, seed: int = 2) -> Tensor:
    return torch.randint(0, VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def other_tokens(tokens: Tensor, start: int, row: int | None = None) -> Tensor:
    """The same batch with other tokens from ``start`` on, in one row or in all."""
    changed = tokens.clone()
    part = changed[:, start:] if row is None else changed[row, start:]
    part.copy_((part + 1 + torch.arange(part.shape[-1]) % (VOCAB - 1)) % VOCAB)
    return changed


def loss_of(model: Any, tokens: Tensor) -> Tensor:
    """Next-token loss, what the parts add to it, and something of what the model hands out beside its logits."""
    output = model(tokens[:, :-1])
    loss = F.cross_entropy(output.logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
    for name, value in output.losses.items():
        loss = loss + output.weights[name] * value
    for tensor in output.shared.values():
        loss = loss + 0.01 * tensor.float().square().mean()
    return loss


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way a model is called."""

    rows: int
    tokens: int
    numbers: Literal["fp64", "fp32", "bf16"]
    train: bool = False
    gradients: bool = False

    def __str__(self) -> str:
        kind = "training" if self.train else "evaluating"
        gradients = "with gradients" if self.gradients else "without gradients"
        return f"{kind} {gradients} in {self.numbers}, {self.rows} rows of {self.tokens} tokens"

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.numbers == "fp64" else torch.float32

    def logits(self, case: Case, tokens: Tensor) -> Tensor:
        """What the model of a case answers; the same dropout each time."""
        with self.applied(moved_model(case, self.dtype)) as model:
            return model(tokens).logits.detach()

    @contextlib.contextmanager
    def applied(self, model: GPT) -> Iterator[GPT]:
        model.train(self.train)
        torch.manual_seed(0)
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=self.numbers == "bf16")
        with autocast, torch.set_grad_enabled(self.gradients):
            yield model
        model.eval()


def decode(model: GPT, tokens: Tensor, chunks: Iterable[int], padding: Tensor | None = None) -> Tensor:
    """Logits by cached decode, in chunks of these many tokens."""
    state = model.new_state(len(tokens), padding=padding)
    return torch.cat([model(chunk, state).logits for chunk in tokens.split(list(chunks), dim=1)], dim=1)


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the larger of the two."""
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    largest = max(a.abs().max().item(), b.abs().max().item())
    return (a - b).abs().max().item() / largest if largest else 0.0
