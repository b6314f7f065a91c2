"""Putting a model's layers together: what they share, hand on, and leave unused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from minigpt import registry
from minigpt.blocks import BlockSpec
from minigpt.components.base import BuildContext, Part
from minigpt.components.head.base import Head
from minigpt.components.residual.base import Residual
from minigpt.cost import Cost, without_params
from minigpt.errors import UserError
from minigpt.model.spec import ModelSpec
from minigpt.registry import Spec


def build_blocks(spec: ModelSpec, provided: frozenset[str]) -> tuple[list[Any], list[BuildContext]]:
    """One block per layer, a shared one in several places, and what each was built with.

    provided: names of tensors that parts before the first block hand on. Raises UserError when a part needs a tensor
    that no earlier one provides, or layers share what they describe differently.
    """
    blocks: list[Any] = []
    contexts: list[BuildContext] = []
    whole = spec.share.owners("block", spec.n_layer)
    parts = {axis: spec.share.owners(axis, spec.n_layer) for axis in ("attention", "mlp")}
    for layer in range(spec.n_layer):
        owner = whole[layer]
        if owner != layer:
            _refuse_different_blocks(spec, owner, layer)
            _refuse_another_role(spec, layer, provided, {"layout": contexts[owner]}, "block")
            blocks.append(blocks[owner])
            contexts.append(contexts[owner])
            continue
        reuse = {axis: contexts[owners[layer]] for axis, owners in parts.items() if owners[layer] != layer}
        for axis in reuse:
            _refuse_another_role(spec, layer, provided, reuse, axis)
        context = dataclasses.replace(spec.context(layer), before=provided, reuse=reuse)
        block = context.build("layout")
        blocks.append(block)
        contexts.append(context)
        for part in (*block.children(), block):  # which run in the order they were built in
            provided = handed_on(part, provided, f"layer {layer}")
    return blocks, contexts


def _refuse_another_role(
    spec: ModelSpec, layer: int, provided: frozenset[str], owners: Mapping[str, BuildContext], shared: str
) -> None:
    """Raise UserError when a part that goes by what is provided before it would be another one at this layer.

    A first layer that hands on a tensor, taken over by a later one that should read it, would do nothing.
    """
    axis = "layout" if shared == "block" else shared
    there = [part for part, _ in owners[axis].built.get(axis, ())]
    if not any(_narrowed(part) for part in there):
        return
    alone = dataclasses.replace(spec.context(layer), before=provided)
    alone.build("layout")
    here = [part for part, _ in alone.built.get(axis, ())]
    for mine, theirs in zip(_all_parts(here), _all_parts(there), strict=False):
        if (mine.provides, mine.needs) != (theirs.provides, theirs.needs):
            raise UserError(
                f"share.{shared}: {theirs.axis}={theirs.name} of layer {owners[axis].layer_index} does something else "
                f"than that of layer {layer}, because of what is provided before it. Share no {shared} between the two"
            )


def _narrowed(module: nn.Module) -> bool:
    """Whether some part in it declares less than its class: it went by what was provided where it was built."""
    return any((p.provides, p.needs) != (type(p).provides, type(p).needs) for p in _all_parts([module]))


def _all_parts(modules: Iterable[nn.Module]) -> list[Part]:
    return [part for module in modules for part in module.modules() if isinstance(part, Part)]


def handed_on(module: nn.Module, provided: frozenset[str], where: str) -> frozenset[str]:
    """What is provided after ``module``; raises UserError when it needs what is not there."""
    parts = [part for part in module.modules() if isinstance(part, Part)]
    for part in (p for p in parts if p.needs):
        there = provided.union(*(other.provides for other in parts if other is not part))
        for name in sorted(part.needs - there):
            raise UserError(
                f"{where}: {part.axis}={part.name} needs '{name}', which nothing before it provides. "
                f"Provided there: {', '.join(sorted(there)) or 'nothing'}. Put a part that provides it earlier"
            )
    return provided.union(*(part.provides for part in parts))


def refuse_other_streams(blocks: Iterable[nn.Module], ends: Residual) -> None:
    """Raise UserError when a block reads and writes another form of stream than the model opens and closes."""
    for layer, block in enumerate(blocks):
        for part in block.modules():
            if isinstance(part, Residual) and part.stream != ends.stream:
                raise UserError(
                    f"layer {layer}: residual={part.name} works on {part.stream}, the model's residual={ends.name} on "
                    f"{ends.stream}. All blocks share one form of stream; choose it for all: residual={part.name}"
                )


def sublayers_followed(blocks: Iterable[Any]) -> int:
    """Tell every residual how many sub-layers write to the stream before it; returns how many do in all."""
    earlier = 0
    for block in blocks:
        earlier = block.follow(earlier)
    return earlier


def tie_again(model: nn.Module, embedding: nn.Module) -> None:
    """Have a tied head score with the embedding that transforms have left in the model."""
    for part in model.modules():
        if isinstance(part, Head) and part.tied_to[0] is not None:
            part.tie(embedding)


def refuse_unfilled(model: nn.Module, *, loaded: bool) -> None:
    """Raise UserError for a number that nothing would give its first value: it would be what the memory holds.

    loaded: whether saved buffers get their values from weights.
    """
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        parameters, buffers = (dict(f(recurse=False)) for f in (module.named_parameters, module.named_buffers))
        for each, parameter in parameters.items():
            first = owners.setdefault(id(parameter), f"{name}.{each}")
            if first != f"{name}.{each}":
                raise UserError(f"{name}.{each}: is the same parameter as {first}. Let both use one module instead")
        if (parameters or buffers) and not isinstance(module, Part):
            held = ", ".join([*parameters, *buffers])
            raise UserError(
                f"{name}: {type(module).__name__} is no Part, so nothing says how its {held} start. "
                f"Build it with ctx, or derive it from Part"
            )
        if buffers and type(module).init_buffers is Part.init_buffers:  # type: ignore[comparison-overlap]
            saved = module.state_dict() if loaded else {}
            for each in (b for b in buffers if b not in saved):
                raise UserError(f"{name}.{each}: {type(module).__name__} has no init_buffers to fill this buffer")
        for each in (a for a, value in vars(module).items() if isinstance(value, Tensor)):
            raise UserError(
                f"{name}.{each}: a tensor as a plain attribute is left behind when the model moves. Make it a buffer "
                f"(register_buffer) and fill it in init_buffers"
            )


def refuse_unfit_slots(model: Any) -> None:
    """Raise UserError for a matrix that the init policy cannot fill; a policy that fills any is not asked."""
    initialiser = model.initialiser(False)
    if initialiser.policy.particular:
        initialiser.walk(model, model.blocks)
        initialiser.policy.check(initialiser.slots.values())


def refuse_ignored(spec: ModelSpec, contexts: list[BuildContext], outside: BuildContext) -> None:
    """Raise UserError for a choice that no layer of the model uses: it would seem to have no effect.

    The default of an axis may stand unused, so that ``attention=identity`` needs no further words.
    """
    layers = list(zip(spec.blocks, contexts, strict=True))
    for axis in registry.axes("block"):
        default = registry.default(axis)
        honoured = [block.spec(axis) for block, context in layers if _honours(context, axis, outside)]
        for block in spec.blocks:
            chosen = block.spec(axis)
            if chosen in honoured or chosen == default:
                continue
            added = outside.block.spec(axis)
            if axis == "position" and chosen != added and not _inside_alone(chosen):
                raise UserError(
                    f"position={chosen} would be ignored: what is added to the embedding is the position of the "
                    f"default block, {added}, whatever block '{block.label}' says. Choose it at the top level alone"
                )
            raise UserError(
                f"{axis}={chosen} would be ignored: attention={block.spec('attention')}, mlp={block.spec('mlp')} and "
                f"layout={block.spec('layout')} use no {axis}. Leave {axis}={default}, or choose another "
                f"{'mlp' if axis == 'activation' else 'attention'}"
            )
    _refuse_unrounded(layers)
    _refuse_ignored_sites([*spec.blocks, spec.default], [*contexts, outside])


def _refuse_unrounded(layers: list[tuple[BlockSpec, BuildContext]]) -> None:
    """Raise UserError where a block rounds its activations, and its attention or its mlp offers no place for it."""
    for block, context in layers:
        chosen = block.spec("quantiser")
        for axis in ("attention", "mlp"):
            for part, _ in context.built.get(axis, ()):
                rounds = any("quantiser" in each.uses for each in _all_parts([part]))
                if chosen != registry.default("quantiser") and not rounds and not _silent(part):
                    raise UserError(
                        f"quantiser={chosen} would be ignored by {axis}={part.name}, which rounds no activations. "
                        f"Choose another {axis}, or single places: sites.quantiser.<place>={chosen.name}"
                    )


def _silent(part: Part) -> bool:
    return bool(getattr(part, "silent", False))


def _inside_alone(position: Spec) -> bool:
    """Whether a position encoding acts, and in attention only."""
    places = registry.get("position", position.name).places
    return bool(places) and "embedding" not in places


def _honours(context: BuildContext, axis: str, outside: BuildContext) -> bool:
    """Whether a layer makes use of its choice on an axis."""
    if axis != "position":
        return axis in context.used
    chosen = context.block.spec(axis)
    places = registry.get(axis, chosen.name).places
    embedded = chosen == outside.block.spec(axis) and axis in outside.used
    if not places:  # what is embedded reaches every layer
        return axis not in outside.used or embedded
    return ("embedding" not in places or embedded) and (not places - {"embedding"} or axis in context.used)


def _refuse_ignored_sites(blocks: list[BlockSpec], contexts: list[BuildContext]) -> None:
    asked: dict[str, set[str]] = {}
    honoured = set()
    for block, context in zip(blocks, contexts, strict=True):
        for axis, site in context.asked:
            if site is not None:
                asked.setdefault(axis, set()).add(site)
                honoured.add((axis, site, str(block.sites.get(axis, {}).get(site))))
    for block in blocks:
        for axis, sites in block.sites.items():
            for site, chosen in sites.items():
                if (axis, site, str(chosen)) not in honoured:
                    raise UserError(
                        f"sites.{axis}.{site}: no part of this model asks for {axis} '{site}', so {chosen} would be "
                        f"ignored\n  sites of {axis} here: {', '.join(sorted(asked.get(axis, ()))) or 'none'}"
                    )


def _refuse_different_blocks(spec: ModelSpec, owner: int, layer: int) -> None:
    here, there = (dataclasses.replace(spec.blocks[index], label="") for index in (layer, owner))
    if here != there:
        raise UserError(
            f"share.block: layers {owner} and {layer} share one block, but the pattern describes two: "
            f"'{spec.blocks[owner].label}' and '{spec.blocks[layer].label}'. Give them the same, or share no blocks"
        )


def counted_once(cost: Cost, module: nn.Module) -> Cost:
    """The same cost, the parameters of a module that stands in several places counted where it stands first."""
    return _counted_once(cost, module, set())


def _counted_once(cost: Cost, module: nn.Module, seen: set[int]) -> Cost:
    if id(module) in seen:
        return without_params(cost)
    seen.add(id(module))
    children = dict(_submodules(module, cost.parts))
    parts = {n: _counted_once(p, children[n], seen) if n in children else p for n, p in cost.parts.items()}
    return dataclasses.replace(cost, parts=parts)


def _submodules(module: nn.Module, names: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    for name in names:
        inner: Any = module
        for attribute in name.split("."):
            inner = getattr(inner, attribute, None)
        if isinstance(inner, nn.Module):
            yield name, inner
