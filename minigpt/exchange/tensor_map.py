"""Which tensor of theirs is which of ours, by a family's table, and how to get one from the other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from minigpt.errors import UserError, shown
from minigpt.exchange.family import Family, Fused
from minigpt.exchange.tensor_files import Form, Tensors
from minigpt.model import GPT

_LEAVES = {"weight": ("weight", "gain"), "bias": ("bias",)}
"""Theirs -> what it is called in ours."""


@dataclasses.dataclass(frozen=True)
class Link:
    """One tensor of theirs, and those of ours it holds. shapes: of ours. heads: query heads, for what goes by them."""

    theirs: str
    ours: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    form: Fused
    heads: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of theirs."""
        whole = (sum(shape[0] for shape in self.shapes), *self.shapes[0][1:])
        return whole[::-1] if self.form.transposed else whole

    def split(self, tensor: Tensor, ours: str) -> Tensor:
        """Theirs -> one of ours."""
        rows = tensor.T if self.form.transposed else tensor
        place = self.ours.index(ours)
        if self.form.by_head:  # (heads, maps, head_dim, ...)
            return rows.unflatten(0, (self.heads, len(self.ours), -1))[:, place].flatten(0, 1)
        return rows.split([shape[0] for shape in self.shapes])[place]

    def join(self, tensors: Iterable[Tensor]) -> Tensor:
        """All of ours -> theirs."""
        parts = list(tensors)
        if self.form.by_head:
            rows = torch.stack([part.unflatten(0, (self.heads, -1)) for part in parts], dim=1).flatten(0, 2)
        else:
            rows = parts[0] if len(parts) == 1 else torch.cat(parts)
        return (rows.T if self.form.transposed else rows).contiguous()


def links(family: Family, model: GPT) -> list[Link]:
    """Every tensor of theirs that a model, which may be on meta, is held in.

    Raises UserError for a tensor of ours that the family has no place for.
    """
    ours = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found = []
    for module, target in family.tensors.items():
        form = target if isinstance(target, Fused) else Fused((target,))
        for layer in range(model.spec.n_layer) if "{}" in module else [0]:
            for leaf, leaves in _LEAVES.items():
                names = [_there(f"{each.format(layer)}.", leaves, ours) for each in form.ours]
                if any(names):
                    found.append(_link(f"{module.format(layer)}.{leaf}", names, ours, form, model.spec.n_head))
    covered = {name for link in found for name in link.ours}
    for name in ours:
        if name not in covered:
            raise UserError(f"{name}: {family.architecture} has no tensor for it")
    return found


def _there(module: str, leaves: Iterable[str], ours: Mapping[str, tuple[int, ...]]) -> str | None:
    return next((module + leaf for leaf in leaves if module + leaf in ours), None)


def _link(theirs: str, names: list[str | None], ours: Mapping[str, tuple[int, ...]], form: Fused, heads: int) -> Link:
    present = tuple(name for name in names if name is not None)
    if len(present) < len(names):
        raise UserError(f"{theirs}: holds {len(names)} tensors in one, and this model has {', '.join(present)} alone")
    shapes = tuple(ours[name] for name in present)
    if form.by_head and len({shape[0] for shape in shapes}) > 1:
        raise UserError(f"{theirs}: holds as many keys as queries, and this model's key heads are fewer")
    if form.transposed and len(shapes[0]) < 2:
        form = dataclasses.replace(form, transposed=False)
    return Link(theirs, present, shapes, form, heads)


class Converted:
    """Tensors of theirs under our names. Nothing is read before it is asked for.

    block_size: the model's context is cut to it where a table of positions would say more; None is no cut.
    Raises UserError for a tensor that is missing, of another shape, not among the family's, or not plain numbers.
    """

    def __init__(self, theirs: Tensors, family: Family, model: GPT, *, cut: bool = False):
        self.theirs, self.place = theirs, theirs.place
        forms = theirs.forms()
        wanted = {link.theirs: link for link in links(family, model)}
        tied = _tied_copy(family, model)
        names = {_full_name(name, family, wanted): name for name in forms}
        self._sources: dict[str, tuple[Link, str]] = {}
        self._forms: dict[str, Form] = {}
        for full, link in wanted.items():
            if full not in names:
                raise UserError(f"{self.place}: {full} is missing; the model it is said to be has it")
            self._add(link, names[full], forms[names[full]], cut)
        for full, name in names.items():
            if full not in wanted and not (full == tied or _is_buffer(full, family)):
                raise UserError(
                    f"{self.place}: {shown(name)} has no place in a {family.model_type} model. Nothing is dropped: "
                    f"its numbers would be missing in the result"
                )
        if tied is not None and tied in names:
            self._check_tied(names[tied], "embedding.weight")

    def _add(self, link: Link, name: str, form: Form, cut: bool) -> None:
        if form.dtype is None:
            raise UserError(f"{self.place}: {shown(name)} is packed or of whole numbers. Take the unpacked weights")
        longer = cut and link.ours == ("position.weight",) and form.shape[:1] > link.shape[:1]
        if form.shape != link.shape and not (longer and form.shape[1:] == link.shape[1:]):
            raise UserError(
                f"{self.place}: {shown(name)} is {list(form.shape)}, the model it is said to be has {list(link.shape)}"
            )
        for ours, shape in zip(link.ours, link.shapes, strict=True):
            self._sources[ours] = (link, name)
            self._forms[ours] = Form(form.dtype, shape)

    def forms(self) -> dict[str, Form]:
        return self._forms

    def read(self, name: str) -> Tensor:
        link, source = self._sources[name]
        tensor = self.theirs.read(source)
        if name == "position.weight":
            tensor = tensor[: self._forms[name].shape[0]]
        return link.split(tensor, name)

    def _check_tied(self, copy: str, ours: str) -> None:
        if not torch.equal(self.theirs.read(copy), self.read(ours)):
            raise UserError(
                f"{self.place}: {shown(copy)} is not the embedding, and the model is said to have one for both. "
                f"If it has a head of its own: tie_word_embeddings=false in its configuration"
            )


class Same:
    """Tensors that have our names already. Raises UserError unless they are exactly a model's."""

    def __init__(self, there: Tensors, model: GPT):
        self.there, self.place = there, there.place
        self._forms = dict(there.forms())
        wanted = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
        for name in sorted({*wanted, *self._forms}):
            form = self._forms.get(name)
            if form is None or form.dtype is None or form.shape != wanted.get(name):
                has = "nothing" if form is None else list(form.shape) if form.dtype is not None else "no real numbers"
                raise UserError(f"{self.place}: {shown(name)}: it holds {has}, the model {wanted.get(name, 'nothing')}")

    def forms(self) -> Mapping[str, Form]:
        return self._forms

    def read(self, name: str) -> Tensor:
        return self.there.read(name)


class Exported:
    """Tensors of ours under their names. Nothing is read before it is asked for."""

    def __init__(self, ours: Tensors, family: Family, model: GPT):
        self.ours, self.place = ours, ours.place
        forms = ours.forms()
        self._links = {link.theirs: link for link in links(family, model)}
        self._forms = {name: Form(forms[link.ours[0]].dtype, link.shape) for name, link in self._links.items()}

    def forms(self) -> dict[str, Form]:
        return self._forms

    def read(self, name: str) -> Tensor:
        link = self._links[name]
        return link.join(self.ours.read(each) for each in link.ours)


def _tied_copy(family: Family, model: GPT) -> str | None:
    """What they call the head where it is the embedding: files may hold it a second time."""
    if not model.spec.tie_embeddings:
        return None
    return next((f"{theirs}.weight" for theirs, ours in family.tensors.items() if ours == "head.linear"), None)


def _full_name(name: str, family: Family, wanted: Mapping[str, Link]) -> str:
    """The name in a whole model; files of the body alone leave a prefix out."""
    longer = f"{family.prefix}{name}"
    known = longer in wanted or _is_buffer(longer, family)
    return longer if family.prefix and name not in wanted and known else name


def _is_buffer(name: str, family: Family) -> bool:
    return any(re.fullmatch(re.escape(each).replace(r"\{\}", r"\d+"), name) for each in family.buffers)
