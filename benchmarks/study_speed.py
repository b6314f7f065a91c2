"""A study of thousands of finished trials: seconds until the same command says that there is nothing to do.

python -m benchmarks.study_speed [seeds=21] [rounds=3]

The study is made by the real code with a launcher that writes records and trains nothing: 4 softmaxes, 3 norms, 2
presets of the MLP, 20 rates and so many seeds. Then `minigpt sweep` is run on it, as a user would; by the clock and
by the processor. Results stand in docs/measurements.md.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

import minigpt.search.run as engine
from minigpt.cli.train import main as train
from minigpt.search.launcher import FinishedJob, Job
from minigpt.training.record import read_run

ROOT = Path(__file__).resolve().parents[1]
AXES = {
    "softmax": "softmax,consmax,relumax,softermax",
    "norm": "rmsnorm,layernorm,dyt",
    "mlp": "swiglu,gelu_mlp",
    "optimizer.lr": ",".join(f"{rate}e-4" for rate in range(1, 21)),
}


class PaperLauncher:
    """Ends every job at once, with a record as training leaves it."""

    def __init__(self, workers: int):
        self.ended = 0

    def run(self, jobs: Iterable[Job]) -> Iterator[FinishedJob]:
        for job in jobs:
            self.ended += 1
            metrics = [{"step": step, "val_loss": 3.1, "tokens": 1, "seconds": 1.0} for step in (1, 2, 3)]
            (job.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
            loss = 2.0 + self.ended * 1e-4
            read_run(job.folder).updated(
                status="completed", val_loss=loss, best_val_loss=loss, bits_per_byte=1.0, parameters=1234,
                flops_per_token=99, state_bytes_per_token=4.0, steps=3, wall_seconds=1.0,
            )  # fmt: skip
            yield FinishedJob(job, 0)


def main(seeds: str = "21", rounds: str = "3") -> None:
    with tempfile.TemporaryDirectory() as out:
        words = [f"{key}={values}" for key, values in AXES.items()]
        words += [f"seed=range(0,{seeds})", "study=big", f"out={out}"]
        made, seconds = made_on_paper(words)
        print(f"{made} trials made in {seconds:.0f} s")
        for _ in range(int(rounds)):
            print("nothing to do: {:.1f} s by the clock, {:.1f} s of the processor".format(*nothing_to_do(words, made)))


def made_on_paper(words: list[str]) -> tuple[int, float]:
    """Finish every trial of a sweep without training; returns how many there are, and the seconds it took."""
    sys.argv = ["train.py", "-m", *words]
    engine.LocalLauncher = PaperLauncher  # type: ignore[misc, assignment]
    begin = time.monotonic()
    with redirect_stdout(io.StringIO()), suppress(SystemExit):
        train()
    out = next(word.removeprefix("out=") for word in words if word.startswith("out="))
    return len(list(Path(out).glob("big/*/run.json"))), time.monotonic() - begin


def nothing_to_do(words: list[str], trials: int) -> tuple[float, float]:
    """Seconds of the same command again, by the clock and of the processor."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "train.py", "-m", *words], cwd=ROOT, capture_output=True, text=True)
    wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if f"{trials} trials, 0 to run" not in done.stdout:
        raise SystemExit(f"expected {trials} trials and 0 to run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main(**dict(word.split("=", 1) for word in sys.argv[1:]))
