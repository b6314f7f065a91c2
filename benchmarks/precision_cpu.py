"""Does bf16 autocast shorten a training step on this CPU? The measurement behind minigpt.device.BF16_PAYS_FROM.

python -m benchmarks.precision_cpu [rounds=5]

Steps of a small and a larger model in fp32 and bf16, in turns; median ms per step.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from minigpt import cli, config
from minigpt.config import TrainConfig
from minigpt.data.dataset import open_dataset
from minigpt.device import Format, Precision
from minigpt.model import resolve
from minigpt.training.record import RunRecord
from minigpt.training.trainer import Trainer

SHAPES = {  # layers, d_model, heads, context, batch
    "4 x 128, batch 12 x 64": (4, 128, 4, 64, 12),
    "4 x 256, batch 8 x 128": (4, 256, 4, 128, 8),
    "6 x 384, batch 4 x 256": (6, 384, 6, 256, 4),
}
FORMATS: tuple[Format, ...] = ("fp32", "bf16")


def main(rounds: int = 5) -> None:
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as scratch:
            steps = {precision: stepper(shape, precision, Path(scratch)) for precision in FORMATS}
            times: dict[Format, list[float]] = {precision: [] for precision in FORMATS}
            for _ in range(rounds):
                for precision, step in steps.items():
                    step()  # the first of a turn finds the other format's cache
                    began = time.perf_counter()
                    for _ in range(4):
                        step()
                    times[precision].append((time.perf_counter() - began) * 250)
        exact, rounded = (statistics.median(times[precision]) for precision in FORMATS)
        print(f"{name}: fp32 {exact:.0f} ms, bf16 {rounded:.0f} ms per step: {exact / rounded:.2f} times as fast")


def stepper(shape: tuple[int, ...], precision: Format, scratch: Path) -> Callable[[], None]:
    n_layer, d_model, n_head, block_size, batch_size = shape
    cli.store_components()
    sizes = {"n_layer": n_layer, "d_model": d_model, "n_head": n_head, "block_size": block_size}
    overrides = [f"model.{key}={value}" for key, value in sizes.items()] + [f"training.batch_size={batch_size}"]
    with initialize_config_dir(str(cli.CONF), version_base=None):
        run = config.check(compose("train", overrides), TrainConfig)
    dataset = open_dataset(run.data.name, run.data.folder, block_size=block_size)
    folder = scratch / precision
    folder.mkdir()
    record = RunRecord(name=precision, status="running", config_hash="", seed=0, folder=folder)
    return Trainer(
        run, resolve(run, dataset.vocab_size), dataset, Precision(precision, torch.device("cpu")), record
    ).step


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(int(given["rounds"]) if "rounds" in given else 5)
