"""What a training mixes: datasets with weights, all the way or in stages. The schema, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any

from minigpt.errors import UserError, did_you_mean
from minigpt.schema import Count, PositiveFloat, Range, options

Weights = Mapping[str, float]


@options
class Stage:
    """A part of a training with a mix of its own.

    mix: dataset -> weight; only their ratios matter. to: the mix it comes to at its end, in a straight line (empty: it
    stays as it is). until: the share of the run's steps at which it ends. until_step: that step, in place of the share.
    The last stage has neither, it goes to the end.
    """

    mix: dict[str, PositiveFloat]
    to: dict[str, PositiveFloat] = field(default_factory=dict)
    until: Annotated[float, Range(gt=0, lt=1)] | None = None
    until_step: Count | None = None


def stages_of(mix: Weights, curriculum: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages of a training; none where one dataset is all there is."""
    return tuple(curriculum) or ((Stage(mix=dict(mix)),) if mix else ())


def names_of(stages: Sequence[Stage]) -> list[str]:
    """Every dataset that any stage names, sorted: an order that does not depend on how the weights are written."""
    return sorted({name for stage in stages for name in (*stage.mix, *stage.to)})


def shares(weights: Weights) -> dict[str, float]:
    """Weights that add up to 1."""
    largest = max(weights.values())  # first: the sum of the largest numbers there are is none
    total = sum(weight / largest for weight in weights.values())
    return {name: weight / largest / total for name, weight in weights.items()}


def check_mixture(name: str, mix: Weights, curriculum: Sequence[Stage]) -> None:
    """Raise UserError for a mix and stages that contradict each other. name: whose validation loss is the run's."""
    if mix and curriculum:
        raise UserError("data.mix: every stage of data.curriculum has a mix of its own, so this one would be ignored")
    for number, stage in enumerate(curriculum):
        _check_stage(f"data.curriculum[{number}]", stage, is_last=number == len(curriculum) - 1)
    for former, stage, number in zip(curriculum, curriculum[1:], range(1, len(curriculum)), strict=False):
        for key in ("until", "until_step"):
            before, end = getattr(former, key), getattr(stage, key)
            if before is not None and end is not None and end <= before:
                raise UserError(
                    f"data.curriculum[{number}].{key}: {end:g} is not after {before:g}, where the stage before it ends"
                )
    names = names_of(stages_of(mix, curriculum))
    if names and name not in names:
        raise UserError(
            f"data.name: '{name}' is not in the mix ({', '.join(names)}).{did_you_mean(name, names)} It names the "
            f"dataset whose validation loss is the run's val_loss: data.name={names[0]}"
        )


def _check_stage(place: str, stage: Stage, *, is_last: bool) -> None:
    if not stage.mix:
        raise UserError(f"{place}.mix: is empty, expected weights such as {{pydocs: 0.7, mine: 0.3}}")
    ends = [key for key in ("until", "until_step") if getattr(stage, key) is not None]
    if is_last and ends:
        raise UserError(
            f"{place}.{ends[0]}: the last stage goes to the end of the run, leave this out; or add a stage for the rest"
        )
    if not is_last and len(ends) != 1:
        what = "both until and until_step are given" if ends else "says not when it ends"
        raise UserError(f"{place}: {what}; expected one of until=<share of the run> and until_step=<step>")


def canonical(mix: Weights, curriculum: Sequence[Stage]) -> dict[str, Any]:
    """The same for weights that mean the same, however they are written: what an identity is made of."""
    stages = [
        {
            "mix": _rounded(stage.mix),
            "to": _rounded(stage.to) if stage.to and _rounded(stage.to) != _rounded(stage.mix) else {},
            "until": stage.until,
            "until_step": stage.until_step,
        }
        for stage in stages_of(mix, curriculum)
    ]
    return {"stages": stages} if stages else {}


def _rounded(weights: Weights) -> dict[str, float]:
    return {name: float(f"{share:.12g}") for name, share in sorted(shares(weights).items())}
