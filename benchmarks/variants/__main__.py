"""A training step of every variant beside one of its simplest correct PyTorch writing.

python -m benchmarks.variants [axis=softmax] [name=consmax] [rounds=15] [threads=1] [out=benchmarks/variants/steps]

Both are the same model of two layers, d_model 384, 4 rows of 256 tokens, but for the variant's parts; they take turns,
so that a noisy machine is as noisy for one as for the other. Seconds are the processor's. Writes <out>.json and
<out>.md. Asked for is a ratio of at most 1.15.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.variants.plain import load, write_plainly
from minigpt.model import GPT
from minigpt.testing.cases import cases_of
from minigpt.testing.models import loss_of

SIZES = {"n_layer": 2, "d_model": 384, "n_head": 6, "vocab_size": 256, "block_size": 256}
ROWS, BOUND = 4, 1.15


def main(
    axis: str = "", name: str = "", rounds: str = "15", threads: str = "1", out: str = "benchmarks/variants/steps"
) -> None:
    torch.set_num_threads(int(threads))
    rows = []
    for variant in sorted(load()):
        if (not axis or variant[0] == axis) and (not name or variant[1] == name):
            rows.append(compared(*variant, int(rounds)))
            print("{axis:>10}={name:<20} {ours:7.1f} ms, plainly {plain:7.1f} ms: {ratio:.2f}".format(**rows[-1]))
    over = [f"{row['axis']}={row['name']}" for row in rows if row["ratio"] > BOUND]
    print(f"{len(rows)} variants, {len(over)} above {BOUND}: {', '.join(over) or 'none'}")
    write(Path(out), rows, int(threads))


def compared(axis: str, name: str, rounds: int) -> dict[str, object]:
    """Milliseconds of the processor's time, medians of ``rounds`` steps each."""
    steps = [step_of(axis, name, plainly) for plainly in (False, True)]
    times: list[list[float]] = [[], []]
    for turn in range(rounds + 2):  # the first two warm up
        for which in (0, 1) if turn % 2 else (1, 0):
            begin = time.process_time()
            steps[which]()
            times[which].append(1000 * (time.process_time() - begin))
    ours, plain = (statistics.median(each[2:]) for each in times)
    ratio = statistics.median(a / b for a, b in zip(times[0][2:], times[1][2:], strict=True))
    return {"axis": axis, "name": name, "ours": ours, "plain": plain, "ratio": ratio}


def step_of(axis: str, name: str, plainly: bool) -> Callable[[], None]:
    model = model_with(axis, name)
    if plainly:
        write_plainly(model, axis, name)
    tokens = torch.randint(0, 256, (ROWS, 257), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss_of(model, tokens).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def model_with(axis: str, name: str) -> GPT:
    """The variant at its defaults, in the surroundings its class names for them."""
    case = next(case for case in cases_of(axis, name) if case.is_default)
    return GPT.create(case.spec(**SIZES)).train()


def write(out: Path, rows: list[dict[str, object]], threads: int) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": threads}
    found = machine | {"sizes": SIZES | {"rows": ROWS}, "steps": rows}
    out.with_suffix(".json").write_text(json.dumps(found, indent=1))
    lines = ["| axis | variant | ms a step | written plainly | ratio |", "|---|---|---|---|---|"]
    lines += ["| {axis} | {name} | {ours:.1f} | {plain:.1f} | {ratio:.2f} |".format(**row) for row in rows]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(f"{out.with_suffix('.json')} and {out.with_suffix('.md')} written")


if __name__ == "__main__":
    main(**dict(word.split("=", 1) for word in sys.argv[1:]))
