"""Which runs are one variant: the same configuration and data, whatever the seed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable

from minigpt import config
from minigpt.report.ppa_rows import LeftOutRow
from minigpt.training.record import RunRecord


def variant_name(run: RunRecord) -> str:
    """What a sweep set for a run, but for the seed; the run's own name when nothing was set."""
    swept = {key: value for key, value in run.overrides.items() if key != "seed"}
    if swept:
        return ", ".join(f"{key}={value}" for key, value in swept.items())
    return "as configured" if run.overrides else run.name


def grouped(runs: Iterable[RunRecord]) -> tuple[dict[str, list[RunRecord]], list[LeftOutRow]]:
    """(variant -> runs with a result, runs without one).

    Runs are one variant when nothing but the seed tells their configurations apart. Two that a sweep calls the same and
    that differ otherwise get the name of their folder too.
    """
    found: dict[tuple[str, str], list[RunRecord]] = {}
    left_out = []
    for run in runs:
        name = variant_name(run)
        if run.status == "completed" and run.val_loss is not None:
            found.setdefault((name, _configuration(run)), []).append(run)
        else:
            reason = run.reason or ("no validation loss" if run.status == "completed" else "")
            left_out.append(LeftOutRow(run=run.name, variant=name, status=run.status, reason=reason))
    names = Counter(name for name, _ in found)
    groups: dict[str, list[RunRecord]] = {}
    for (name, configuration), alike in found.items():
        folder = alike[0].folder.parent.name
        label = name if names[name] == 1 else f"{name} ({folder})"
        groups[label if label not in groups else f"{name} ({folder} {configuration[:6]})"] = alike
    return groups, left_out


def _configuration(run: RunRecord) -> str:
    """Hash of what a run was, but for its seed: its configuration and its data."""
    content = json.loads((run.folder / "model.json").read_text(encoding="utf-8"))
    if (run.folder / "config.yaml").is_file():
        content = config.load_yaml(run.folder / "config.yaml")
        content["training"].pop("threads", None)
    for key in ("seed", *config.NOT_IDENTITY):
        content.pop(key, None)
    return hashlib.sha256(json.dumps([content, run.dataset_hash], sort_keys=True).encode()).hexdigest()
