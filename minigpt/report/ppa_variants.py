"""Which runs are one variant: the same configuration and data, whatever the seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from minigpt import config
from minigpt.errors import UserError
from minigpt.files import read_json
from minigpt.report.ppa_rows import LeftOutRow
from minigpt.screen import visible
from minigpt.training.record import RunRecord

_NO_NAME = ("seed", "plugins")
"""Keys that tell no variant from another: where a part comes from is not which it is."""


def grouped(runs: Iterable[RunRecord]) -> tuple[dict[str, list[RunRecord]], list[LeftOutRow]]:
    """(variant -> runs with a result, runs without one).

    Runs are one variant when nothing but the seed tells their configurations apart. It is called by what was said of it
    and not of all; by its run when that is nothing. Two of the same name get that of their folder too.
    """
    found: dict[str, list[RunRecord]] = {}
    without: list[tuple[RunRecord, str]] = []
    for run in runs:
        if run.status != "completed" or run.val_loss is None:
            without.append((run, run.reason or ("no validation loss" if run.status == "completed" else "")))
            continue
        try:
            found.setdefault(_configuration(run), []).append(run)
        except UserError as error:
            without.append((run, str(error)))
    keys = _telling_keys([alike[0] for alike in found.values()])
    names = {configuration: _name(alike, keys) for configuration, alike in found.items()}
    groups: dict[str, list[RunRecord]] = {}
    for configuration, alike in found.items():
        name, folder = names[configuration], alike[0].folder.parent.name
        label = name if list(names.values()).count(name) == 1 else visible(f"{name} ({folder})")
        groups[label if label not in groups else visible(f"{name} ({folder} {configuration[:6]})")] = alike
    return groups, [left(run, _name([run], keys), reason) for run, reason in without]


def left(run: RunRecord, variant: str, reason: str) -> LeftOutRow:
    """A run that the report can say nothing of, and why."""
    shown = " ".join(visible(reason).split())
    return LeftOutRow(run=visible(run.name), variant=variant, status=run.status, reason=shown)


def _telling_keys(runs: Sequence[RunRecord]) -> list[str]:
    """The keys that were said of some and not of others, or with different values."""
    keys = dict.fromkeys(key for run in runs for key in run.overrides if key not in _NO_NAME)
    return [key for key in keys if len({repr(run.overrides[key]) if key in run.overrides else "" for run in runs}) > 1]


def _name(alike: Sequence[RunRecord], keys: Sequence[str]) -> str:
    """What a variant is called. alike: its runs."""
    said = alike[0].overrides
    words = ", ".join(f"{key}={said[key]}" for key in keys if key in said)
    return visible(words or (alike[0].name if len(alike) == 1 else "as configured"))


def _configuration(run: RunRecord) -> str:
    """Hash of what a run was, but for its seed: its configuration and its data."""
    content = read_json(run.folder / "model.json")
    if (run.folder / "config.yaml").is_file():
        content = config.load_yaml(run.folder / "config.yaml")
        for key in config.NOT_IDENTITY_OF_TRAINING:
            content.setdefault("training", {}).pop(key, None)
    for key in ("seed", *config.NOT_IDENTITY):
        content.pop(key, None)
    return hashlib.sha256(json.dumps([content, run.dataset_hash], sort_keys=True).encode()).hexdigest()
