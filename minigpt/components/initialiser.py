"""How parameters get their first values: seeded by qualified name, decided by role."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from minigpt.components.base import Part
from minigpt.errors import UserError

Role = Literal["weight", "residual_out", "embedding", "position", "head", "conv", "router", "gain", "bias", "scalar"]
"""What a parameter is for. Init policies and optimizers go by role, never by name.

weight: a hidden matrix. residual_out: the matrix that writes into the residual stream. embedding, position: tables.
head: an output matrix of its own. conv: a kernel over neighbouring tokens. router: a matrix that chooses among experts.
gain, bias: per channel. scalar: everything else that is learned and not a matrix.
"""


@dataclasses.dataclass(frozen=True)
class Slot:
    """A matrix or table that is to be filled, as an init policy sees it.

    name: qualified. fan_in, fan_out: how many inputs an output sums, and outputs an input reaches. layer: the block it
    is in (the first of those that share it), None outside. n_layer, d_model: of the whole model.
    """

    name: str
    role: Role
    fan_in: int
    fan_out: int
    layer: int | None
    n_layer: int
    d_model: int
    shape: tuple[int, ...]


class Initialiser:
    """Gives parameters their first values: seeded by qualified name, drawn on the CPU, decided by role.

    The same parameter starts bit-identical whatever else the model is made of and wherever it will live.
    fill: which parameters get values, all, none, or those of these names; the others are only told apart by role.
    ``roles`` maps each parameter's qualified name to its Role once a model has been walked, ``slots`` those that the
    policy decides about to their Slot.
    """

    def __init__(self, policy: Any, seed: int, n_layer: int, d_model: int, *, fill: bool | frozenset[str] = True):
        self.policy, self.seed, self.n_layer, self.d_model, self.fill = policy, seed, n_layer, d_model, fill
        self.roles: dict[str, Role] = {}
        self.slots: dict[str, Slot] = {}
        self._names: dict[int, str] = {}
        self._layers: dict[int, int] = {}

    def walk(self, model: nn.Module, layers: Sequence[nn.Module] = ()) -> dict[str, Role]:
        """Initialise every parameter of ``model`` exactly once; returns the role of each.

        layers: the blocks, so that a policy knows which one a parameter is in.
        """
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        for layer, block in enumerate(layers):
            for parameter in block.parameters():
                self._layers.setdefault(id(parameter), layer)
        for module in _parts(model):
            module.init_parameters(self)
        missing = sorted(set(self._names.values()) - set(self.roles))
        if missing:
            raise AssertionError(f"parameters without a first value: {missing}")
        return self.roles

    def matrix(self, parameter: Tensor, role: Role, fan_in: int, fan_out: int | None = None) -> None:
        """A matrix or table: the init policy decides by its :class:`Slot`. fan_out: None is the first dimension."""
        name = self._claim(parameter, role)
        fan_out = parameter.shape[0] if fan_out is None else fan_out
        layer, shape = self._layers.get(id(parameter)), tuple(parameter.shape)
        slot = Slot(name, role, fan_in, fan_out, layer, self.n_layer, self.d_model, shape)
        self.slots[name] = slot

        def drawn(generator: torch.Generator) -> Tensor:
            values = torch.empty(parameter.shape, dtype=torch.float32)
            self.policy.fill(values, slot, generator)
            return values

        self._put(parameter, name, drawn)

    def constant(self, parameter: Tensor, value: float, role: Role) -> None:
        """A gain, bias or scalar that starts at ``value``."""
        name = self._claim(parameter, role)
        if abs(value) > torch.finfo(torch.float32).max:
            raise UserError(f"{name}: cannot start at {value:g}, which is beyond what numbers of 32 bits hold")
        self._put(parameter, name, lambda _: torch.full(parameter.shape, value))

    def values(self, parameter: Tensor, values: Tensor | Callable[[torch.Generator], Tensor], role: Role) -> None:
        """A parameter that starts as a tensor of its shape, or as what a function draws from the generator given."""
        name = self._claim(parameter, role)
        self._put(parameter, name, values if callable(values) else lambda _: values)

    def _claim(self, parameter: Tensor, role: Role) -> str:
        name = self._names[id(parameter)]
        if name in self.roles:
            raise AssertionError(f"{name} is initialised twice")
        self.roles[name] = role
        return name

    def _put(self, parameter: Tensor, name: str, draw: Callable[[torch.Generator], Tensor]) -> None:
        if self.fill is False or (self.fill is not True and name not in self.fill):
            return
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        values = draw(torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))
        if values.shape != parameter.shape:
            raise AssertionError(f"{name} has shape {tuple(parameter.shape)}, its values {tuple(values.shape)}")
        if not values.isfinite().all():
            raise UserError(f"{name}: its first values are beyond what numbers of 32 bits hold. Choose smaller ones")
        with torch.no_grad():
            parameter.copy_(values)


def _parts(model: nn.Module) -> Iterator[Part]:
    for module in model.modules():
        if isinstance(module, Part):
            yield module
        elif next(module.parameters(recurse=False), None) is not None:
            raise AssertionError(f"{type(module).__name__} owns parameters but is no Part")
