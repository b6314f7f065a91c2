"""What every component is, and what it is built with."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from minigpt import registry
from minigpt.blocks import BlockSpec
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import Spec

if TYPE_CHECKING:
    from minigpt.components.call import Call
    from minigpt.components.initialiser import Initialiser, Role


class Part(nn.Module):
    """Base of all components.

    uses: the other axes this component builds from (``ctx.build``); an option of an axis nobody uses is refused.
    provides, needs: names of the tensors it hands to later parts, and reads from earlier ones (see Call); an instance
    may narrow what its class declares. compiles: whether ``torch.compile(fullgraph=True)`` gives the same numbers; a
    test holds it to that. site: the named place it was built for, such as ``q`` of a linear map; None has no name.
    cases: options to try it with, ``[{"window": 4, "with": {"position": "nope"}}]``; every option is in one. changes:
    what an option changes where it is not the output: ``gradient``, ``start`` (first values) or ``work`` (what torch
    computes). decode_form: a name for the form in which one token is decoded, where it is not that of a prefill.
    pooled: the list of its parts, all alike, of which the data says which one works on what; ``cost`` prices the work
    of all of them under the name of the first.
    """

    axis: ClassVar[str]
    name: ClassVar[str]
    Config: ClassVar[type]
    uses: ClassVar[frozenset[str]] = frozenset()
    compiles: ClassVar[bool] = True
    provides: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    site: str | None = None
    cases: ClassVar[Sequence[Mapping[str, Any]]] = ()
    changes: ClassVar[Mapping[str, str]] = {}
    decode_form: ClassVar[str | None] = None
    pooled: ClassVar[str | None] = None

    def init_parameters(self, init: Initialiser) -> None:
        """Give every parameter this module owns directly its first value and its role."""
        owned = [name for name, _ in self.named_parameters(recurse=False)]
        if owned:
            raise NotImplementedError(f"{type(self).__name__} owns {owned} and must say how they start")

    def init_buffers(self) -> None:
        """Fill the buffers this module owns directly that are tables: not learned, not saved."""

    def updated(self) -> None:
        """Called after every update of the parameters in training: what counts them keeps the count in a buffer."""

    def penalise(self, call: Call) -> None:
        """Record auxiliary losses that depend on this part's parameters alone; called once at the end of a forward."""

    def cost(self, work: Work) -> Cost:
        """What one call does and reads, children included as ``parts``."""
        raise NotImplementedError(f"{type(self).__name__} has no cost")

    def hardware_form(self, work: Work) -> Mapping[str, int]:
        """What torch's form of a call has more (+) or less (-) than the hardware form that :meth:`cost` counts.

        By operation, or by ``activations``, ``weights_read``, ``state_read_bits``, ``state_written_bits``; the reason
        belongs into the docstring. A census of what torch dispatches is held to both.
        """
        return {}

    def own_params(self) -> int:
        return sum(p.numel() for p in self.parameters(recurse=False))


@dataclasses.dataclass(frozen=True)
class BuildContext:
    """The sizes a component is built with, and the way to its own parts. One per layer, one for what is outside them.

    layer_index: -1 outside the blocks. parts: the model's own components, by axis. before: names of tensors that
    parts of earlier layers hand on; handed: those of parts built here. reuse: axis -> the layer whose parts of it are
    taken over instead of building some. asked: (axis, site) of everything built here, in order. built: axis -> the
    parts built, and where the requests of each stand in ``asked``.
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
    parts: Mapping[str, Spec]
    before: frozenset[str] = frozenset()
    handed: set[str] = dataclasses.field(default_factory=set, compare=False)
    reuse: Mapping[str, BuildContext] = dataclasses.field(default_factory=dict, compare=False)
    asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list, compare=False)
    built: dict[str, list[tuple[Part, slice]]] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def provided(self) -> frozenset[str]:
        """Names of the tensors that the parts built so far hand on."""
        return self.before | self.handed

    @property
    def used(self) -> frozenset[str]:
        """Axes whose choice for the whole block some part asked for."""
        return frozenset(axis for axis, site in self.asked if site not in self.block.sites.get(axis, {}))

    def build(self, axis: str, *args: Any, site: str | None = None) -> Any:
        """The component chosen on an axis: ``ctx.build("softmax")``, ``ctx.build("norm", width, site="qk")``.

        site: the name of the place it is for; ``sites.<axis>.<site>`` may choose another one than the block's.
        """
        self.asked.append((axis, site))
        if axis in self.reuse:
            return self._taken_over(axis)
        start = len(self.asked) - 1
        chosen = self.parts[axis] if axis in self.parts else self.block.spec(axis, site)
        part = registry.build(chosen, self, *args)
        if isinstance(part, Part):
            self.handed.update(part.provides)
            if site is not None:
                part.site = site
        self.built.setdefault(axis, []).append((part, slice(start, len(self.asked))))
        return part

    def linear(
        self,
        in_features: int,
        out_features: int,
        *,
        site: str,
        role: Role = "weight",
        bias: bool | None = None,
        only_site: bool = False,
    ) -> Any:
        """A linear map of the kind chosen for ``site``, (..., in_features) -> (..., out_features).

        bias: None is ``model.bias``. only_site: where the site has no choice of its own, the default one, not the
        block's.
        """
        arguments = (in_features, out_features, role, self.bias if bias is None else bias)
        if only_site and site not in self.block.sites.get("linear", {}):
            self.asked.append(("linear", site))
            return registry.build(registry.default("linear"), self, *arguments)
        return self.build("linear", *arguments, site=site)

    def norm(self, width: int | None = None, *, site: str) -> Any:
        """A norm of the kind chosen for ``site`` over the last dimension of size ``width`` (None: d_model)."""
        return self.build("norm", self.d_model if width is None else width, site=site)

    def activation(self, width: int, *, site: str) -> Any:
        """An activation of the kind chosen for ``site`` over ``width`` channels."""
        return self.build("activation", width, site=site)

    def quantisers(self, *sites: str) -> Any:
        """Site -> the quantiser chosen for it, a ModuleDict: kept as ``self.quantise``, called with what passes."""
        return nn.ModuleDict({site: self.build("quantiser", site=site) for site in sites})

    def _taken_over(self, axis: str) -> Part:
        """The part of another layer, whose choices must be this layer's too."""
        owner, place = self.reuse[axis], len(self.built.get(axis, ()))
        if place >= len(owner.built.get(axis, ())):
            raise UserError(
                f"share.{axis}: layer {self.layer_index} has more of it than layer {owner.layer_index}, "
                f"whose {axis} it shares. Give them one layout, or share no {axis}"
            )
        part, where = owner.built[axis][place]
        for each, site in owner.asked[where]:
            here, there = self.block.spec(each, site), owner.block.spec(each, site)
            if here != there:
                raise UserError(
                    f"share.{axis}: layers {owner.layer_index} and {self.layer_index} share one {axis}, but "
                    f"{each}{'' if site is None else f' at {site}'} is {there} in one and {here} in the other. "
                    f"Give them the same, or share no {axis}"
                )
        self.asked.extend(owner.asked[where][1:])
        self.handed.update(part.provides)
        own = slice(len(self.asked) - (where.stop - where.start), len(self.asked))
        self.built.setdefault(axis, []).append((part, own))
        return part


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Context in which autocast leaves products of fp32 tensors in fp32: for sums that a narrow format would lose."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
