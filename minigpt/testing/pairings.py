"""Parts of all axes put together at random: what no list of cases would think of."""

from __future__ import annotations

import random
from typing import Any

import torch

from minigpt import registry
from minigpt.components.base import Part
from minigpt.model import GPT
from minigpt.testing.cases import Case, cases_of
from minigpt.testing.contract import require
from minigpt.testing.models import SIZES, batch, create, difference, loss_of, other_tokens
from minigpt.testing.specs import make_spec

DRAWN = 600
"""Pairings of one run."""
EXACT = 1e-6
TOKENS = 20


def pairings(seed: int, count: int = DRAWN) -> list[Case]:
    """Models with two parts or more, up to all, that are cases drawn from their axes; what must not go together refuses
    with a UserError."""
    draw = random.Random(seed)
    sites = _sites()
    return [_pairing(draw, sites) for _ in range(count)]


def check_trains_and_looks_back(case: Case) -> None:
    """Two steps of training stay finite, and no token sees the future before, in between or afterwards."""
    model = create(case.spec(**SIZES)).double()  # what a wild step enlarges is not to be rounding
    _require_causal(model, "as it starts")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        loss = loss_of(model, batch(2, TOKENS, seed=step))
        loss.backward()
        require(bool(loss.isfinite()), f"the loss of step {step} is {loss.item()}")
        optimizer.step()
    _require_causal(model, "after two steps")


def _require_causal(model: GPT, when: str) -> None:
    tokens, t = batch(2, TOKENS), TOKENS // 2
    for train in (True, False):
        said = []
        for each in (tokens, other_tokens(tokens, t)):
            torch.manual_seed(0)
            said.append(model.train(train)(each).logits.detach()[:, :t])
        sentence = f"what comes from token {t} on changes what is said before it {when}"
        require(difference(*said) <= EXACT, sentence)
    model.train()


def _pairing(draw: random.Random, sites: list[tuple[str, str]]) -> Case:
    """One attention with some other axes, and now and then a part of another kind at one site, as its surroundings."""
    axes = [axis for axis in (*registry.axes("block"), *registry.axes("model")) if axis not in ("init", "attention")]
    chosen = draw.sample(axes, draw.choice((1, 1, 2, 2, 3, 4, len(axes))))
    around: dict[str, Any] = {axis: _part(draw, axis) for axis in chosen}
    if draw.random() < 0.5:
        axis, site = draw.choice(sites)
        around["sites"] = {axis: {site: _part(draw, axis)}}
    attention = _part(draw, "attention")
    return Case.of("attention", attention.pop("name"), attention | {"with": around})


def _part(draw: random.Random, axis: str) -> dict[str, Any]:
    case = draw.choice(cases_of(axis, draw.choice(registry.names(axis))))
    return {"name": case.name} | case.changed


def _sites() -> list[tuple[str, str]]:
    """(axis, site) of every named place in the default model."""
    parts = [part for part in GPT.on_meta(make_spec()).modules() if isinstance(part, Part)]
    return sorted({(part.axis, part.site) for part in parts if part.site is not None})
