"""The optimizer axis: how parameters move, each by its role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from minigpt.components.initialiser import Role
from minigpt.errors import UserError, shown
from minigpt.registry import declare

declare("optimizer", default="adamw", scope="run")


DECAYED: frozenset[Role] = frozenset({"weight", "residual_out", "embedding", "position", "head", "conv", "router"})
"""Roles whose matrices decay: a gain, a bias or a scalar pulled to zero would change what it is for."""


class Optimizer:
    """Built as ``cls(config, parameters, roles)``, by name: the trainable parameters, and the roles of all; a variant
    hands this what moves them.

    parts: torch optimizers whose groups hold every parameter exactly once. Each group's ``lr`` is its base rate: a
    schedule scales all of them by one factor. curvature: whether the next step wants :meth:`curve` first.
    moves_by_rate: whether a number moves by about the rate in a step, whatever its gradient's size, as with Adam: what
    an init policy takes for granted that scales rates by width.
    """

    name: ClassVar[str]
    curvature = False
    moves_by_rate: ClassVar[bool] = False

    def __init__(self, parts: list[torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter]):
        self.parts = parts
        held = [id(p) for group in self.groups for p in group["params"]]
        if sorted(held) != sorted(id(p) for p in parameters.values()):
            raise AssertionError(f"{type(self).__name__}: {len(held)} parameters in groups, {len(parameters)} to train")
        for group in self.groups:
            group["base_lr"] = group["lr"]
        self._together = _Together(self)

    @property
    def groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def lr(self) -> float:
        """The first group's rate now: the one to log."""
        return float(self.groups[0]["lr"])

    def scale_rates(self, parameters: Mapping[str, nn.Parameter], factors: Mapping[str, float]) -> None:
        """Multiply the base rates of single parameters, by name: each group becomes one per factor.

        Raises UserError where steps are not of the size that such factors are made for.
        """
        if all(factor == 1 for factor in factors.values()):
            return
        if not self.moves_by_rate:
            raise UserError(
                f"optimizer={self.name}: init scales learning rates by width as steps of Adam's size need them, and "
                f"those of {self.name} are of another. Choose optimizer=adamw, or another init"
            )
        by_parameter = {id(p): factors.get(name, 1.0) for name, p in parameters.items()}
        for part in self.parts:
            split: list[dict[str, Any]] = []
            for group in part.param_groups:
                found = {by_parameter[id(p)] for p in group["params"]}
                for factor in sorted(found, key=lambda f: (f != 1, f)):  # the rate itself first: it is the one to log
                    own = [p for p in group["params"] if by_parameter[id(p)] == factor]
                    rates = {name: factor * group[name] for name in ("lr", "base_lr")}
                    split.append({**group, "params": own, **rates})
            part.param_groups[:] = split

    def set_lr(self, factor: float) -> None:
        """Set every group to ``factor`` times its base rate."""
        for group in self.groups:
            group["lr"] = factor * group["base_lr"]

    def train(self) -> None:
        """Told before training and after every :meth:`eval`: the weights are now to be trained."""

    def eval(self) -> None:
        """Told before a validation and a save: a method that trains other weights than it answers with, such as a
        schedule-free one or an average, puts in those that are meant to be used."""

    def curve(self, curvature: list[torch.Tensor]) -> None:
        """Given, where :attr:`curvature` asks for it, an estimate of the loss' curvature along every parameter."""

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Divide gradients by the loss scale, so that they can be clipped."""
        scaler.unscale_(self._together)  # type: ignore[arg-type]

    def step(self, scaler: torch.amp.GradScaler) -> None:
        """Move every parameter; nothing moves when the scaler found a gradient that is not finite."""
        scaler.step(self._together)  # type: ignore[arg-type]

    def move(self) -> None:
        """What a step does once the gradients are known to be finite."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def mismatch(self, state: Any) -> str:
        """Why what :meth:`state_dict` gave cannot be loaded here; nothing when it can. A variant that keeps more
        than its parts do, or in other shapes than its parameters, says what fits."""
        if len(state) != len(self.parts):
            return f"an optimizer of {len(state)} parts, here of {len(self.parts)}"
        for part, stored in zip(self.parts, state, strict=True):
            here, there = part.param_groups, stored["param_groups"]
            if [len(group["params"]) for group in here] != [len(group["params"]) for group in there]:
                return "its optimizer has other groups of parameters"
            for ours, theirs in zip(here, there, strict=True):
                for name in (ours.keys() & theirs.keys()) - {"params"}:
                    if ours[name] is not None and _kind(theirs[name]) != _kind(ours[name]):
                        return f"{name} of the optimizer is {shown(theirs[name], 40)}, here {shown(ours[name], 40)}"
            parameters = [parameter for group in here for parameter in group["params"]]
            for number, values in stored["state"].items():
                shape = tuple(parameters[number].shape)
                for name, value in values.items():
                    found = [tuple(t.shape) for t in (value if isinstance(value, list) else [value]) if _is_array(t)]
                    if found and found != self.kept(name, shape):
                        return f"{name} of the optimizer has shape {', '.join(map(str, found))}, its parameter {shape}"
        return ""

    def kept(self, name: str, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Shapes of what a part keeps under a name for a parameter of a shape: one tensor like it, if nothing else is
        said."""
        return [shape]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for part, stored in zip(self.parts, state, strict=True):
            part.load_state_dict(stored)


class _Together:
    """All parts as one optimizer, as which a scaler sees them: a gradient of one that is not finite stops all."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.groups

    def step(self) -> None:
        self.optimizer.move()


def _is_array(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0


def _kind(value: Any) -> Any:
    """What sort of option of a group a value can be; numbers are of one."""
    if isinstance(value, (list, tuple)):
        return [_kind(each) for each in value]
    return float if type(value) is int else type(value)


def decay_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], roles: Mapping[str, Role], weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: matrices and tables, which decay, and everything else, which does not."""
    decayed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in parameters:
        (decayed if roles[name] in DECAYED and parameter.ndim >= 2 else rest).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def hidden_matrices(
    name: str, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]
) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The matrices inside blocks, and everything else, for optimizers whose method is one of matrices.

    name: of the optimizer. Raises UserError when there is no such matrix, so that most of its options would do nothing.
    """
    hidden = {n: p for n, p in parameters.items() if roles[n] in ("weight", "residual_out") and p.ndim == 2}
    if not hidden:
        raise UserError(
            f"optimizer={name}: moves matrices inside blocks, and none is trained here; all the rest moves by AdamW. "
            f"Take optimizer=adamw"
        )
    return hidden, {n: p for n, p in parameters.items() if n not in hidden}
