"""What can be chosen of a variant, and that choosing it does something."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minigpt import registry
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing.cases import Case, missing_choices
from minigpt.testing.census import followed
from minigpt.testing.contract import contract, require
from minigpt.testing.models import LONG, SHORT, SIZES, Mode, batch, create, difference, loss_of, moved

EFFECT = 1e-4
"""Relative change from which on an option has an effect: far above rounding, whatever is claimed beside it."""
KINDS = ("output", "gradient", "start", "work")


@contract("defaults")
def check_cases(case: Case) -> None:
    """Every option, and every choice of an option of choices, is in a case its class declares."""
    missing = missing_choices(case.axis, case.name)
    require(not missing, f"no case tries {', '.join(missing)}: declare it in {case.name}'s ``cases``")
    options = {field.name for field in dataclasses.fields(registry.entry(case.axis, case.name).config)}
    for option, kind in changes_of(case).items():
        require(option in options, f"``changes`` names {option}, which is no option")
        require(kind in KINDS, f"``changes`` says {option} changes '{kind}'; expected one of {', '.join(KINDS)}")


@contract("options")
def check_options(case: Case) -> None:
    """Every option changed has an effect beyond what is claimed and beyond rounding."""
    changes = changes_of(case)
    for option in case.changed:
        kind = changes.get(option, "output")
        other = case.without(option) if _builds(case.without(option)) else case.default()
        far = _change(kind, case, other)
        require(far > EFFECT, f"{option}={case.changed[option]} changes no {kind} ({far:.0e} of the largest)")


def changes_of(case: Case) -> Mapping[str, str]:
    """What the class of a variant says its options change, where it is not the output."""
    return getattr(registry.get(case.axis, case.name), "changes", {})


def _builds(case: Case) -> bool:
    try:
        GPT.on_meta(case.spec(**SIZES))
    except UserError:
        return False  # an option that needs another beside it
    return True


def _change(kind: str, a: Case, b: Case) -> float:
    """How far two models are apart in what an option is said to change."""
    seen = {"output": _output, "gradient": _gradients, "start": _start, "work": _work}[kind]
    first, second = seen(a), seen(b)
    return max(
        (difference(first[k], second[k]) if k in first and k in second else 1.0 for k in {*first, *second}), default=0.0
    )


def _model(case: Case) -> GPT:
    return moved(create(case.spec(**SIZES))).double()


def _output(case: Case) -> dict[str, Tensor]:
    mode = Mode(3, SHORT, "fp64", train=True)
    with mode.applied(_model(case)) as model:
        output = model(batch())
    return {"logits": output.logits} | dict(output.losses)


def _gradients(case: Case) -> dict[str, Tensor]:
    mode = Mode(3, SHORT, "fp64", train=True, gradients=True)
    with mode.applied(_model(case)) as model:
        loss_of(model, batch()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _start(case: Case) -> dict[str, Tensor]:
    return {name: p.detach().double() for name, p in create(case.spec(**SIZES)).named_parameters()}


def _work(case: Case) -> dict[str, Tensor]:
    """What torch dispatches, whatever cost() says."""
    model, tokens = _model(case).eval(), batch(1, LONG)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(tokens)
        with followed(model, tokens) as trace:
            model(tokens)
    counts = {"flops": counter.get_total_flops()} | trace.total
    return {name: torch.tensor(float(count)) for name, count in counts.items()}


@contract("defaults", not_for=("init", "transform"))
def check_uses(case: Case) -> None:
    """The axes a class says it ``uses`` are those it builds from."""
    cls = registry.get(case.axis, case.name)
    models = [GPT.on_meta(case.spec(**SIZES | {"tie_embeddings": tied})) for tied in (True, False)]
    built = {
        str(below.axis) for model in models for part in model.modules() if type(part) is cls for below in _nearest(part)
    }
    require(built == cls.uses, f"it says it uses {_listed(cls.uses)}, and builds from {_listed(built)}")


def _nearest(module: nn.Module) -> Iterator[nn.Module]:
    """The registered components right below a module."""
    for child in module.children():
        if hasattr(child, "axis"):
            yield child
        else:
            yield from _nearest(child)


def _listed(axes: Iterable[str]) -> str:
    return ", ".join(sorted(axes)) or "nothing"
