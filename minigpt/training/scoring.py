"""What ``minigpt evaluate`` does: models, scores, the table, the records."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from minigpt.checkpoint_folder import META
from minigpt.device import choose_device
from minigpt.errors import UserError
from minigpt.evaluation.config import EvaluationConfig, task_options
from minigpt.evaluation.names import STDERR, kept
from minigpt.evaluation.run import Evaluation, evaluate
from minigpt.exchange.trained import load_trained
from minigpt.screen import console, plain_text, say
from minigpt.training.record import find_runs
from minigpt.training.scores import keep_scores, run_of


def score_checkpoints(config: EvaluationConfig) -> None:
    """Evaluate what ``checkpoint`` names, print the scores, and put them into the runs' records.

    Of a folder of runs one that cannot be evaluated is named, and the others go on; UserError when none could be.
    """
    several = runs_below(Path(config.checkpoint or ""))
    found: dict[str, Evaluation] = {}
    for path in several or [Path(config.checkpoint or "")]:
        try:
            found[str(path)] = score_one(path, config)
        except UserError as error:
            if not several:
                raise
            say(f"{path}: {error}", lines=True, file=sys.stderr)
    if not found:
        raise UserError(f"checkpoint: none of the {len(several)} runs in '{config.checkpoint}' could be evaluated")
    if config.json:
        print(json.dumps([as_plain(path, each) for path, each in found.items()], indent=1))
    else:
        print_scores(found)


def score_one(path: Path, config: EvaluationConfig) -> Evaluation:
    """Evaluate one model and keep its scores where it is of a run."""
    trained = load_trained(path, choose_device(config.device), plugins=config.plugins)
    found = evaluate(trained, task_options(config))
    run = run_of(trained.folder) if config.record else None
    if run is not None:
        keep_scores(run, kept(found.scores), config.tasks)
    if found.missing:
        say(f"{path}: no finite number: {', '.join(found.missing)}", file=sys.stderr)
    return found


def runs_below(folder: Path) -> list[Path]:
    """The runs with a checkpoint in a folder that is none itself; nothing when it is a run, a checkpoint or a file."""
    if not folder.is_dir() or any((folder / name).exists() for name in ("run.json", META, "config.json")):
        return []
    found = find_runs(folder)
    if found.unreadable:
        say(found.complaint(), lines=True, file=sys.stderr)
    return [record.folder for record in found.records if (record.folder / "checkpoint").is_dir()]


def as_plain(path: str, found: Evaluation) -> dict[str, object]:
    """An evaluation for JSON."""
    return {
        "checkpoint": path,
        "scores": dict(found.scores),
        "higher_is_better": dict(found.higher_is_better),
        "questions": dict(found.questions),
        "seconds": round(found.seconds, 3),
    }


def print_scores(found: Mapping[str, Evaluation]) -> None:
    """Of one model a line per score, of several a line per model."""
    from rich.table import Table

    better = {name: higher for each in found.values() for name, higher in each.higher_is_better.items()}
    table = Table(box=None, pad_edge=False)
    if len(found) == 1:
        (only,) = found.values()
        for title in ("score", "better", ""):
            table.add_column(title, justify="left" if title else "right")
        for name, higher in better.items():
            table.add_row(*map(plain_text, [name, "higher" if higher else "lower", _shown(only.scores, name)]))
    else:
        table.add_column("", overflow="fold")
        for name, higher in better.items():
            table.add_column(
                plain_text(f"{name} {'(higher)' if higher else '(lower)'}"), justify="right", overflow="fold"
            )
        for path, each in found.items():
            table.add_row(*map(plain_text, [path, *(_shown(each.scores, name) for name in better)]))
    console(width=None if sys.stdout.isatty() else 60 + 26 * len(better) * (len(found) > 1), highlight=False).print(
        table
    )
    for path, each in found.items():
        say(f"{path}: {_told(each)}", file=sys.stderr)


def _shown(scores: Mapping[str, float], name: str) -> str:
    if name not in scores:
        return "-"
    error = scores.get(f"{name}{STDERR}", math.nan)
    return number(scores[name]) + (f" +- {number(error)}" if math.isfinite(error) else "")


def number(value: float) -> str:
    """Four digits after the point, or as many places as a large number needs."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _told(found: Evaluation) -> str:
    asked: Sequence[str] = [f"{task} {count}" for task, count in found.questions.items()]
    return f"{', '.join(asked)} questions in {found.seconds:.1f} s, {found.passes} passes over {found.tokens:,} tokens"
