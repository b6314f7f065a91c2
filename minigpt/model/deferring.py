"""Norms whose division waits for the maps behind them: found, joined with those maps, and refused anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from minigpt.components.linear.base import LinearMap
from minigpt.components.norm.base import Norm
from minigpt.errors import UserError


def join_norms(model: Any) -> None:
    """Tell every linear map behind a deferring norm that it divides, see :class:`minigpt.components.deferred.Deferred`.

    Raises UserError for such a norm whose output anything but plain linear maps may read, and for a map that reads
    divided rows in one layer and others in the next.
    """
    readers = {norm: parts for norm, parts in _readers(model)}
    dividing: set[LinearMap] = set()
    for norm in (m for m in model.modules() if isinstance(m, Norm) and m.deferred):
        for part in readers.get(norm, (None,)):
            dividing.update(_maps_of(norm, part))
    for norm, parts in readers.items():
        for part in parts:
            if not norm.deferred and any(one in dividing for one in _promised(part)):
                raise UserError(
                    f"{part.axis}={part.name} stands behind norm={norm.name} in one layer, and behind one that leaves "
                    f"its division to it in another. Give the layers that share it one norm"
                )
    for one in dividing:
        one.divides = True


def _readers(model: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """(norm, the parts that are all that reads it)."""
    for block in dict.fromkeys(model.blocks):
        if not vars(type(block)).get("norms_inputs", False):
            continue
        attention, mlp = (getattr(block, axis, None) for axis in ("attention", "mlp"))
        attention_norm, mlp_norm = (getattr(block, f"{axis}_norm", None) for axis in ("attention", "mlp"))
        shared = mlp is not None and not mlp.silent and mlp_norm is None  # one norm for both
        if attention_norm is not None:
            yield attention_norm, (attention, mlp) if shared else (attention,)
        if mlp_norm is not None:
            yield mlp_norm, (mlp,)
    if model.final_norm is not None:
        yield model.final_norm, (model.head,)


def _promised(part: Any) -> list[nn.Module]:
    """The maps that a part says are all that reads its input; the promise is no subclass's."""
    names = vars(type(part)).get("input_maps", ())
    return [getattr(part, name) for name in names if getattr(part, name, None) is not None]


def _maps_of(norm: Any, part: Any) -> list[Any]:
    """Those maps, if they take an undivided input."""
    maps = [] if part is None else _promised(part)
    if not maps:
        other = "other parts read" if part is None else f"{part.axis}={part.name} does not promise that only maps read"
        raise _refused(norm, f"{other} it")
    for site, quantiser in getattr(part, "quantise", {}).items():
        if site.endswith("_input") and quantiser.bits is not None:
            raise _refused(norm, f"quantiser={quantiser.name} at {site} would round what is not divided yet")
    for one in maps:
        if not isinstance(one, LinearMap) or type(one).forward is not LinearMap.forward:
            name = getattr(one, "name", type(one).__name__)
            raise _refused(norm, f"the map at '{getattr(one, 'site', None)}', {name}, does more than multiply")
    return maps


def _refused(norm: Any, why: str) -> UserError:
    return UserError(
        f"norm={norm.name} at '{norm.site}' leaves its division to the linear maps that read it, and {why}. "
        f"Set sites.norm.{norm.site}=rmsnorm, or norm=rmsnorm"
    )
