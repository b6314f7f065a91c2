"""Parts of all axes put together at random: what no list of cases would think of."""

from __future__ import annotations

import random
from typing import Any

from minigpt import registry
from minigpt.components.base import Part
from minigpt.model import GPT
from minigpt.testing.cases import Case, cases_of
from minigpt.testing.specs import make_spec

DRAWN = 96
"""Pairings of one run; most refuse to be built."""


def pairings(seed: int, count: int = DRAWN) -> list[Case]:
    """Models whose every part is a case drawn from its axis; what must not go together refuses with a UserError."""
    draw = random.Random(seed)
    sites = _sites()
    return [_pairing(draw, sites) for _ in range(count)]


def _pairing(draw: random.Random, sites: list[tuple[str, str]]) -> Case:
    """One attention with all other axes, and now and then a part of another kind at one site, as its surroundings."""
    axes = [axis for axis in (*registry.axes("block"), *registry.axes("model")) if axis != "init"]
    around: dict[str, Any] = {axis: _part(draw, axis) for axis in axes}
    if draw.random() < 0.5:
        axis, site = draw.choice(sites)
        around["sites"] = {axis: {site: _part(draw, axis)}}
    attention = around.pop("attention")
    return Case.of("attention", attention.pop("name"), attention | {"with": around})


def _part(draw: random.Random, axis: str) -> dict[str, Any]:
    case = draw.choice(cases_of(axis, draw.choice(registry.names(axis))))
    return {"name": case.name} | case.changed


def _sites() -> list[tuple[str, str]]:
    """(axis, site) of every named place in the default model, and of the norm that is there only where it is chosen."""
    model = GPT.on_meta(make_spec(sites={"norm": {"embedding": "rmsnorm"}}))
    parts = [part for part in model.modules() if isinstance(part, Part)]
    return sorted({(part.axis, part.site) for part in parts if part.site is not None})
