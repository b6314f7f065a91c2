"""Which runs are one variant: the same configuration and data, whatever the seed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable

from minigpt import config
from minigpt.errors import UserError
from minigpt.files import read_json
from minigpt.report.ppa_rows import LeftOutRow
from minigpt.screen import visible
from minigpt.training.record import RunRecord


def variant_name(run: RunRecord) -> str:
    """What was said of a run, but for the seed; the run's own name when nothing was."""
    said = {key: value for key, value in run.overrides.items() if key != "seed"}
    if said:
        return visible(", ".join(f"{key}={value}" for key, value in said.items()))
    return "as configured" if run.overrides else visible(run.name)


def grouped(runs: Iterable[RunRecord]) -> tuple[dict[str, list[RunRecord]], list[LeftOutRow]]:
    """(variant -> runs with a result, runs without one).

    Runs are one variant when nothing but the seed tells their configurations apart. Two that a sweep calls the same and
    that differ otherwise get the name of their folder too.
    """
    found: dict[tuple[str, str], list[RunRecord]] = {}
    left_out = []
    for run in runs:
        name = variant_name(run)
        if run.status != "completed" or run.val_loss is None:
            left_out.append(left(run, run.reason or ("no validation loss" if run.status == "completed" else "")))
            continue
        try:
            found.setdefault((name, _configuration(run)), []).append(run)
        except UserError as error:
            left_out.append(left(run, str(error)))
    names = Counter(name for name, _ in found)
    groups: dict[str, list[RunRecord]] = {}
    for (name, configuration), alike in found.items():
        folder = alike[0].folder.parent.name
        label = name if names[name] == 1 else f"{name} ({folder})"
        groups[label if label not in groups else f"{name} ({folder} {configuration[:6]})"] = alike
    return groups, left_out


def left(run: RunRecord, reason: str) -> LeftOutRow:
    """A run that the report can say nothing of, and why."""
    shown = " ".join(visible(reason).split())
    return LeftOutRow(run=visible(run.name), variant=variant_name(run), status=run.status, reason=shown)


def _configuration(run: RunRecord) -> str:
    """Hash of what a run was, but for its seed: its configuration and its data."""
    content = read_json(run.folder / "model.json")
    if (run.folder / "config.yaml").is_file():
        content = config.load_yaml(run.folder / "config.yaml")
        content.setdefault("training", {}).pop("threads", None)
    for key in ("seed", *config.NOT_IDENTITY):
        content.pop(key, None)
    return hashlib.sha256(json.dumps([content, run.dataset_hash], sort_keys=True).encode()).hexdigest()
