"""What every component is, what it is built with, and how its parameters get their first values."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from minigpt import registry
from minigpt.blocks import BlockSpec
from minigpt.cost import Cost, Work

Role = Literal["weight", "residual_out", "embedding", "position", "head", "gain", "bias", "scalar"]
"""What a parameter is for. Init policies and optimizers go by role, never by name.

weight: a hidden matrix. residual_out: the matrix that writes into the residual stream. embedding, position: tables.
head: an output matrix of its own. gain, bias: per channel. scalar: everything else that is learned and not a matrix.
"""


class Part(nn.Module):
    """Base of all components.

    uses: the other axes this component builds from (``ctx.build``); an option of an axis nobody uses is refused.
    compiles: whether ``torch.compile(fullgraph=True)`` gives the same numbers; a test holds it to that.
    """

    axis: ClassVar[str]
    name: ClassVar[str]
    Config: ClassVar[type]
    uses: ClassVar[frozenset[str]] = frozenset()
    compiles: ClassVar[bool] = True

    def init_parameters(self, init: Initialiser) -> None:
        """Give every parameter this module owns directly its first value and its role."""
        owned = [name for name, _ in self.named_parameters(recurse=False)]
        if owned:
            raise NotImplementedError(f"{type(self).__name__} owns {owned} and must say how they start")

    def init_buffers(self) -> None:
        """Fill the buffers this module owns directly; they are tables, not learned, not saved."""

    def cost(self, work: Work) -> Cost:
        """What one call does and reads, children included as ``parts``."""
        raise NotImplementedError(f"{type(self).__name__} has no cost")

    def own_params(self) -> int:
        return sum(p.numel() for p in self.parameters(recurse=False))


@dataclasses.dataclass(frozen=True)
class BuildContext:
    """The sizes a component is built with, and the way to its own parts. One per layer.

    used: axes some component of this layer has asked for; filled while the layer is built.
    """

    d_model: int
    n_head: int
    head_dim: int
    n_layer: int
    layer_index: int
    block_size: int
    vocab_size: int
    bias: bool
    dropout: float
    block: BlockSpec
    used: set[str] = dataclasses.field(default_factory=set, compare=False)

    def build(self, axis: str, *args: Any) -> Any:
        """The block's component on an axis: ``ctx.build("softmax")``, ``ctx.build("norm", width)``."""
        self.used.add(axis)
        return registry.build(getattr(self.block, axis), self, *args)

    def linear(self, in_features: int, out_features: int, role: Role = "weight") -> Any:
        """A linear map of the block's kind, (..., in_features) -> (..., out_features)."""
        return self.build("linear", in_features, out_features, role)

    def norm(self, width: int | None = None) -> Any:
        """A norm of the block's kind over the last dimension of size ``width`` (None: d_model)."""
        return self.build("norm", self.d_model if width is None else width)


class Initialiser:
    """Gives parameters their first values: seeded by qualified name, drawn on the CPU, decided by role.

    The same parameter starts bit-identical whatever else the model is made of and wherever it will live.
    ``roles`` maps each parameter's qualified name to its Role once a model has been walked.
    """

    def __init__(self, policy: Any, seed: int, n_layer: int, *, fill: bool = True):
        self.policy, self.seed, self.n_layer, self.fill = policy, seed, n_layer, fill
        self.roles: dict[str, Role] = {}
        self._names: dict[int, str] = {}

    def walk(self, model: nn.Module) -> dict[str, Role]:
        """Initialise every parameter of ``model`` exactly once; returns the role of each."""
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        for module in _parts(model):
            module.init_parameters(self)
        missing = sorted(set(self._names.values()) - set(self.roles))
        if missing:
            raise AssertionError(f"parameters without a first value: {missing}")
        return self.roles

    def matrix(self, parameter: Tensor, role: Role, fan_in: int) -> None:
        """A matrix or table: the init policy decides by role and fan-in."""
        generator = self._claim(parameter, role)
        if self.fill:
            values = torch.empty(parameter.shape, dtype=torch.float32)
            self.policy.fill(values, role, fan_in, self.n_layer, generator)
            with torch.no_grad():
                parameter.copy_(values)

    def constant(self, parameter: Tensor, value: float, role: Role) -> None:
        """A gain, bias or scalar that starts at ``value``."""
        self._claim(parameter, role)
        if self.fill:
            with torch.no_grad():
                parameter.fill_(value)

    def _claim(self, parameter: Tensor, role: Role) -> torch.Generator:
        name = self._names[id(parameter)]
        if name in self.roles:
            raise AssertionError(f"{name} is initialised twice")
        self.roles[name] = role
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _parts(model: nn.Module) -> Iterator[Part]:
    for module in model.modules():
        if isinstance(module, Part):
            yield module
        elif next(module.parameters(recurse=False), None) is not None:
            raise AssertionError(f"{type(module).__name__} owns parameters but is no Part")


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Context in which autocast leaves products of fp32 tensors in fp32: for sums that a narrow format would lose."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


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
        if self.padding is None:
            return self.index
        return (self.index - self.padding[:, None]).clamp_min(0)

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
