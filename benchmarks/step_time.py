"""A training step of this checkout beside another one's.

python -m benchmarks.step_time <other checkout> source=<text> [rounds=20]

Both train nanoGPT's CPU preset, each in a process of its own, in turns of 20 steps, so that a noisy machine is as noisy
for one as for the other. Printed are the medians and the ratios of neighbouring turns with their spread, by the clock
and by the processor's time, which other programs disturb less: training.threads=1 for that.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CONTENDER = """
import sys, time
from pathlib import Path
from benchmarks import nanogpt_cpu as benchmark
from minigpt.data.dataset import open_dataset

folder = Path(sys.argv[1])
run = benchmark.preset(f"data.folder={folder / 'data'}", f"out={folder / 'out'}", "name=timing", *sys.argv[2:])
dataset = open_dataset("shakespeare_char", run.data.folder, block_size=run.model.block_size)
step = benchmark.our_step(run, dataset, Path(sys.argv[1]))
for _ in range(benchmark.TURN):
    step()
print("ready", flush=True)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(benchmark.TURN):
        step()
    spent = (time.perf_counter() - wall, time.process_time() - cpu)
    print(*(seconds / benchmark.TURN * 1000 for seconds in spent), flush=True)
"""


def main(other: str, source: str, rounds: int = 20, *overrides: str) -> None:
    checkouts = {"this": HERE, "other": Path(other).resolve()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        turns = {
            name: running.enter_context(contender(place, Path(scratch) / name, source, overrides))
            for name, place in checkouts.items()
        }
        for number in range(rounds):
            for name in checkouts if number % 2 else reversed(checkouts):
                times[name].append(turn(turns[name]))
    for which, measure in enumerate(("by the clock", "of the processor")):
        mine, theirs = ([turn[which] for turn in times[name]] for name in checkouts)
        low, middle, high = statistics.quantiles([m / t for m, t in zip(mine, theirs, strict=True)], n=4)
        medians = f"{statistics.median(mine):.2f} ms here, {statistics.median(theirs):.2f} there"
        print(f"{measure:>16}: {medians}; ratio {middle:.3f}, quartiles {low:.3f} to {high:.3f}")


@contextmanager
def contender(checkout: Path, folder: Path, source: str, overrides: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """A process that takes 20 steps for every line it is sent, its dataset prepared and its first steps behind it."""
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    words = ["dataset=shakespeare_char", f"source={Path(source).resolve()}", f"folder={folder / 'data'}"]
    subprocess.run(
        [sys.executable, "data/prepare.py", *words],
        cwd=checkout,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", CONTENDER, str(folder), *overrides],
        cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{checkout}: its benchmark did not start")
        yield process
    finally:
        process.kill()
        process.wait()


def turn(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Milliseconds per step of one turn, by the clock and of the processor."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    wall, cpu = map(float, process.stdout.readline().split())
    return wall, cpu


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[2:] if word.startswith(("source=", "rounds=")))
    rest = [word for word in sys.argv[2:] if not word.startswith(("source=", "rounds="))]
    main(sys.argv[1], given["source"], int(given.get("rounds", 20)), *rest)
