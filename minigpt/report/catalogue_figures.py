"""The figures of the catalogue: what variants cost at GPT-2's size, and what they reached in a study."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt import presets, registry
from minigpt.cost import Work
from minigpt.errors import UserError
from minigpt.files import read_text, write_text
from minigpt.hardware import HardwareSpec, price
from minigpt.schema import plain
from minigpt.training.record import RunRecord, find_runs

if TYPE_CHECKING:
    from minigpt.testing import Case

GPT2 = {"n_layer": 12, "d_model": 768, "n_head": 12, "vocab_size": 50257, "block_size": 1024}
LARGEST = 1 << 20
"""Bytes of a file of results."""
_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of a model of GPT-2's size with house defaults around the variant.

    prefill_flops: of the matrix products of one token, the mean over 1,024 from nothing. decode_flops, state_bytes,
    energy_mj: of the token that sees 1,024; own_uj: what of it goes into the variant's own operations, without its
    maps and other parts. unit_*: of the variant as a unit of its own, where it is a function that needs one.
    """

    parameters: int
    prefill_flops: float
    decode_flops: float
    state_bytes: float
    energy_mj: float
    own_uj: float
    unit_area_um2: float | None
    unit_energy_pj: float | None


def figures(axis: str, word: str, hardware: HardwareSpec) -> Figures | str:
    """What a variant costs at its defaults, or a preset as it says; where such a model cannot be built, why."""
    from minigpt.model import GPT

    case = _case(axis, word)
    try:
        model = GPT.on_meta(case.spec(**GPT2))
    except UserError as error:
        return str(error).splitlines()[0]
    prefill, decode = (model.cost(Work(1, tokens, 1024)).total for tokens in (1024, 1))
    ppa = price(hardware, model.cost, context=1024)
    cls = registry.get(axis, case.name)
    paths = {path for path, part in model.named_modules() if type(part) is cls}
    own = [each for each in ppa.components if each.path in paths]
    units = [each.unit for each in own if each.unit is not None]
    return Figures(
        parameters=decode.params,
        prefill_flops=prefill.flops / 1024,
        decode_flops=decode.flops,
        state_bytes=decode.state_bits / 8,
        energy_mj=ppa.energy_per_token_mj,
        own_uj=1000 * sum(float(each.energy.total_mj) for each in own),
        unit_area_um2=max((u.area_um2 for u in units), default=None),
        unit_energy_pj=max((u.energy_per_element_pj for u in units), default=None),
    )


def _case(axis: str, word: str) -> Case:
    """A variant in the surroundings its class names for its defaults; a preset with all it brings."""
    from minigpt.testing import Case, cases_of

    if registry.has(axis, word):
        return next(case for case in cases_of(axis, word) if case.is_default)
    nodes = presets.resolve(axis, word)
    node = nodes.pop(axis)
    return Case.of(axis, node["name"], {k: v for k, v in node.items() if k != "name"} | {"with": nodes})


@dataclasses.dataclass(frozen=True)
class Reached:
    """Losses of one choice, by seed; None where a run did not complete. difference: from the default's, paired by seed,
    its mean and the half width of its 95 % interval; None where no two pairs are."""

    choice: str
    losses: Mapping[str, float | None]
    difference: tuple[float, float] | None

    @property
    def loss(self) -> float:
        found = [loss for loss in self.losses.values() if loss is not None]
        return statistics.fmean(found) if found else math.inf

    @property
    def verdict(self) -> str:
        """Beside the default: better, worse, or no difference that the seeds can tell."""
        if self.difference is None:
            return "-"
        mean, half = self.difference
        return "tie" if abs(mean) <= half else ("worse" if mean > 0 else "better")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A study over one axis. command: how it was run. budget: in words. rows: the lowest loss first."""

    axis: str
    command: str
    budget: str
    rows: tuple[Reached, ...]


def stored(folder: Path, axis: str) -> Comparison | None:
    """The results kept beside the pages, ``results/<axis>.json``; None when nobody has compared the axis."""
    file = folder / "results" / f"{axis}.json"
    if not file.is_file():
        return None
    content = json.loads(read_text(file, limit=LARGEST))
    return compared(axis, content["command"], content["budget"], content["losses"])


def store(study: Path, folder: Path) -> str:
    """Keep what the runs of a study reached as ``results/<axis>.json``; returns the axis.

    Raises UserError for a study that varies anything but one axis and the seed.
    """
    records = find_runs(study).records
    keys = {key for record in records for key in record.overrides} - {"seed"}
    axes = [key for key in sorted(keys) if key in registry.axes()]
    if len(keys) != 1 or not axes:
        found = ", ".join(sorted(keys)) or "nothing"
        raise UserError(f"results: expected a study over one axis and seed, {study} varies {found}")
    losses: dict[str, dict[str, float | None]] = {}
    for record in records:
        done = record.status == "completed"
        losses.setdefault(_choice(record, axes[0]), {})[str(record.seed)] = record.val_loss if done else None
    content = {"command": f"python train.py explorations={study.name}", "budget": _budget(records), "losses": losses}
    (folder / "results").mkdir(parents=True, exist_ok=True)
    write_text(folder / "results" / f"{axes[0]}.json", json.dumps(content, indent=1, sort_keys=True) + "\n")
    return axes[0]


def compared(axis: str, command: str, budget: str, losses: Mapping[str, Mapping[str, float | None]]) -> Comparison:
    """losses: choice -> seed -> loss. Differences are from the axis' default, paired by seed."""
    default = registry.axis_named(axis).default or ""
    base = losses.get(default, {})
    rows = [
        Reached(choice, found, None if choice == default else paired(found, base)) for choice, found in losses.items()
    ]
    return Comparison(axis, command, budget, tuple(sorted(rows, key=lambda row: row.loss)))


def paired(ours: Mapping[str, float | None], theirs: Mapping[str, float | None]) -> tuple[float, float] | None:
    """Mean of the differences at common seeds, and half the width of Student's 95 % interval around it."""
    from scipy.stats import t

    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    if len(differences) < 2:
        return None
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.fmean(differences), error * float(t.ppf((1 + _CONFIDENCE) / 2, len(differences) - 1))


def _choice(record: RunRecord, axis: str) -> str:
    value = record.overrides[axis]
    return value if isinstance(value, str) else json.dumps(plain(value))


def _budget(records: Sequence[RunRecord]) -> str:
    """What every run was given, in words."""
    done = [record for record in records if record.status == "completed"]
    if not done:
        raise UserError("results: no run of it has completed")
    first: Any = done[0]
    seconds = statistics.median(float(record.wall_seconds or 0) for record in done)
    return (
        f"{first.steps:,} steps, {first.tokens_seen:,} tokens of {first.dataset}, {len(records)} runs of about "
        f"{seconds:.0f} s each"
    )
