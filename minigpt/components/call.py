"""One forward call: which tokens it sees, what layers hand to later ones, and what they record on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from minigpt.errors import UserError


@dataclasses.dataclass(frozen=True)
class Span:
    """The tokens of one forward call, as places in their sequences.

    start: index of the first token (how many the state has seen). length: tokens in this call, T.
    padding: (B,) how many tokens at the left of each row are padding, or None.
    Index counts from the left edge, padding included; position counts from the first real token.
    """

    start: int
    length: int
    device: torch.device
    padding: Tensor | None = None

    @property
    def index(self) -> Tensor:
        """(T,) index of each token."""
        return torch.arange(self.start, self.start + self.length, device=self.device)

    @property
    def positions(self) -> Tensor:
        """(T,), or (B, T) with padding: position of each token; 0 for padding itself."""
        return self.positions_at(self.index)

    def positions_at(self, index: Tensor) -> Tensor:
        """index: (S,) -> (S,), or (B, S) with padding: the position of each; 0 for padding and empty places."""
        return (index if self.padding is None else index - self.padding[:, None]).clamp_min(0)

    @property
    def real(self) -> Tensor | None:
        """(B, T) False where a token is padding; None when none is."""
        return None if self.padding is None else self.index >= self.padding[:, None]

    def visible(self, key_index: Tensor, window: int | None = None) -> Tensor:
        """(T, S), or (B, 1, T, S) with padding: may query t see key s?

        key_index: (S,) index of each key, negative for an empty place. A padding query sees itself, so that its row is
        finite.
        """
        query = self.index[:, None]  # (T, 1)
        seen = (key_index <= query) & (key_index >= 0)  # (T, S)
        if window is not None:
            seen = seen & (key_index > query - window)
        if self.padding is None:
            return seen
        real = key_index >= self.padding[:, None]  # (B, S)
        return (seen & real[:, None, :] | (key_index == query))[:, None]


class Call:
    """What the parts of a model share during one forward.

    A part hands a tensor on by :meth:`provide` and reads one by :meth:`need`; it declares the names on its class, so
    that a missing provider is found when the model is built. :meth:`record` adds to the loss or to what is logged.
    Every block works on a copy of its own whose news the model joins afterwards: running a block a second time, as
    activation checkpointing does, then reads the same and records nothing twice.

    layer: which block this is the call of, None outside. shared: what earlier parts have provided.
    losses, weights, metrics: what has been recorded, by name.
    """

    def __init__(self, span: Span, shared: Mapping[str, Tensor] | None = None, layer: int | None = None):
        self.span, self.layer = span, layer
        self.shared: dict[str, Tensor] = dict(shared or {})
        self.provided: dict[str, Tensor] = {}
        self.losses: dict[str, Tensor] = {}
        self.weights: dict[str, float] = {}
        self.metrics: dict[str, Tensor] = {}

    def provide(self, name: str, tensor: Tensor) -> None:
        """Hand a tensor to later parts; of two of one name they get the later one."""
        self.shared[name] = self.provided[name] = tensor

    def need(self, name: str) -> Tensor:
        """What an earlier part has provided under ``name``; raises UserError when none has."""
        if name not in self.shared:
            raise UserError(
                f"a part needs '{name}', which nothing has provided by then. Provided: "
                f"{', '.join(sorted(self.shared)) or 'nothing'}. Declare what a part needs and provides on its class"
            )
        return self.shared[name]

    def record(self, name: str, *, loss: Tensor | None = None, weight: float = 1.0, metric: Tensor | None = None):
        """Add ``weight * loss`` (a scalar) to what training makes smaller, or log ``metric`` (a scalar, or a list).

        Losses of one name are summed over layers; a metric keeps its layer: ``<name>.<layer>``.
        Raises UserError for what is no such tensor, a metric recorded before, a loss of two weights.
        """
        if loss is not None:
            _refuse_other_shape(f"loss '{name}'", loss, most=0)
            self._add_loss(name, loss, weight)
        if metric is not None:
            _refuse_other_shape(f"metric '{name}'", metric, most=1)
            key = name if self.layer is None else f"{name}.{self.layer}"
            if key in self.metrics:
                raise UserError(f"metric '{key}' is recorded twice. Give one of the two another name")
            self.metrics[key] = metric.detach()

    def inside(self, layer: int) -> Call:
        """The call as block ``layer`` sees it."""
        return Call(self.span, self.shared, layer)

    def copy(self) -> Call:
        """The same, with nothing recorded: one that may be thrown away."""
        return Call(self.span, self.shared, self.layer)

    def join(self, block: Call) -> None:
        """Take over what a block has provided and recorded."""
        for name, tensor in block.provided.items():
            self.provide(name, tensor)
        for name, loss in block.losses.items():
            self._add_loss(name, loss, block.weights[name])
        self.metrics.update(block.metrics)

    def _add_loss(self, name: str, loss: Tensor, weight: float) -> None:
        if self.weights.setdefault(name, weight) != weight:
            raise UserError(
                f"loss '{name}' is recorded with two weights, {self.weights[name]:g} and {weight:g}. "
                f"Give every layer the same, or the loss two names"
            )
        self.losses[name] = self.losses[name] + loss if name in self.losses else loss


def _refuse_other_shape(what: str, value: object, most: int) -> None:
    if not isinstance(value, Tensor) or value.ndim > most:
        shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        expected = "a scalar tensor" if most == 0 else "a tensor, a scalar or a list"
        raise UserError(f"{what}: expected {expected}, got {shape}")
