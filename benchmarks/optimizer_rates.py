"""Which rate suits which optimizer: ``python -m benchmarks.optimizer_rates [name ...] [steps=200] [wide=2] [seeds=3]``.

A small model on the built-in text (2 layers of 64, context 64, batches of 16). Every optimizer is tried at its default
rate and at so many doublings up and down with seed 0; the best and the default then get the other seeds. A rate of its
own for the rest of the parameters moves along. One thread; JSON lines, then a table.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import fmean

from minigpt import config, registry
from minigpt.config import TrainConfig
from minigpt.training.fit import fit

WORST = 99.0  # of a run that diverged


def run_of(node: dict, seed: int, steps: int, out: str, schedule: str) -> TrainConfig:
    parts = {axis: {"name": registry.axis_named(axis).default} for axis in registry.axes()}
    content = {axis: part for axis, part in parts.items() if part["name"] is not None} | {
        "optimizer": node,
        "schedule": {"name": schedule},
        "data": {"name": "pydocs", "val_tokens": 16384},
        "model": {"d_model": 64, "n_head": 2, "n_layer": 2, "block_size": 64},
        "training": {"max_steps": steps, "eval_interval": 10**6, "log_interval": 100, "threads": 1},
        "seed": seed,
        "out": out,
        "device": "cpu",
    }
    return config.check(content, TrainConfig)


def at(name: str, factor: float) -> dict:
    """An optimizer with its rates multiplied."""
    options = registry.spec("optimizer", name).options
    rates = [f.name for f in dataclasses.fields(options) if f.name in ("lr", "adamw_lr")]
    return {"name": name} | {rate: getattr(options, rate) * factor for rate in rates}


def measure(loss: Callable[[float, int], float], wide: int, seeds: int) -> dict[float, list[float]]:
    """Factor of the default rate -> losses, one per seed."""
    found = {2.0**n: [loss(2.0**n, 0)] for n in range(-wide, wide + 1)}
    best = min(found, key=lambda factor: found[factor][0])
    for factor in {best, 1.0}:
        found[factor] += [loss(factor, seed) for seed in range(1, seeds)]
    return found


def main(words: list[str]) -> None:
    said = dict(word.split("=") for word in words if "=" in word)
    names = [word for word in words if "=" not in word] or registry.names("optimizer")
    steps, wide, seeds = (int(said.get(key, usual)) for key, usual in (("steps", 200), ("wide", 2), ("seeds", 3)))
    out = tempfile.mkdtemp()
    began = time.process_time()
    rows = []
    for name in names:
        schedule = said.get("schedule", "constant" if name == "schedule_free" else "cosine")

        def loss(factor: float, seed: int, name: str = name, schedule: str = schedule) -> float:
            started = time.process_time()
            record = fit(run_of(at(name, factor), seed, steps, out, schedule))
            shutil.rmtree(record.folder)
            value = record.val_loss if record.status == "completed" and record.val_loss is not None else WORST
            spent = round(time.process_time() - started, 1)
            line = at(name, factor) | {"seed": seed, "schedule": schedule, "val_loss": value, "seconds": spent}
            print(json.dumps(line), file=sys.stderr, flush=True)
            return value

        found = measure(loss, wide, seeds)
        cells = []
        for factor, losses in sorted(found.items()):
            text = f"{fmean(losses):.3f}" + (f" ({min(losses):.3f} to {max(losses):.3f})" if len(losses) > 1 else "")
            cells.append(f"{at(name, factor)['lr']:.3g}: {text if fmean(losses) < WORST else 'diverged'}")
        rows.append(f"| `{name}` | " + " | ".join(cells) + " |")
    shutil.rmtree(out)
    print("| optimizer |" + " rate: loss |" * (2 * wide + 1))
    print("|---" * (2 * wide + 2) + "|")
    print("\n".join(rows))
    print(f"\n{time.process_time() - began:.0f} s of the processor")


if __name__ == "__main__":
    main(sys.argv[1:])
