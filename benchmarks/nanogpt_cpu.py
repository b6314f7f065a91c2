"""nanoGPT's CPU preset: its loss, and its time per step beside a plain transformers GPT-2 of the same shape.

python -m benchmarks.nanogpt_cpu source=<tinyshakespeare.txt> [rounds=15] [train=true]

Both models take the same step - batch, forward, backward, clip at 1.0, AdamW - in one process, in turns of 20 steps.
Then the preset is trained for its 2000 steps and its loss on the full validation split printed. Needs transformers.
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
from minigpt.data.dataset import Dataset, open_dataset
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.device import choose_precision
from minigpt.model import resolve
from minigpt.training.fit import fit
from minigpt.training.record import RunRecord
from minigpt.training.trainer import Trainer

TURN = 20  # steps one contender takes before the other has its turn


def main(source: str, rounds: int = 15, train: bool = True) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(PrepareConfig(source=source, dataset="shakespeare_char", folder=str(folder / "data")))
        run = preset(f"data.folder={folder / 'data'}", f"out={folder / 'out'}", "name=nanogpt_cpu")
        dataset = open_dataset("shakespeare_char", run.data.folder, block_size=run.model.block_size)
        contenders = {"minigpt": our_step(run, dataset, folder), "transformers": their_step(run, dataset)}
        for name, times in measure(contenders, rounds).items():
            low, middle, high = statistics.quantiles(times, n=4)
            print(f"{name:>14}: {middle:.1f} ms per step, quartiles {low:.1f} to {high:.1f}, fastest {min(times):.1f}")
        if train:
            record = fit(run)
            print(f"validation loss {record.val_loss:.4f} after {record.steps} steps, {record.wall_seconds:.0f} s")


def preset(*overrides: str) -> TrainConfig:
    """The checked configuration of the preset."""
    cli.store_components()
    with initialize_config_dir(str(cli.CONF), version_base=None):
        composed = compose("train", ["model=nanogpt_cpu", "data=shakespeare_char", *overrides])
        return config.check(composed, TrainConfig)


def our_step(run: TrainConfig, dataset: Dataset, folder: Path) -> Callable[[], None]:
    """A step of our own loop, loader and schedule included."""
    place = folder / "timing"
    place.mkdir()
    record = RunRecord(name="timing", status="running", config_hash=run.identity, seed=0, folder=place)
    precision = choose_precision(run.training.precision, torch.device("cpu"), run.model.d_model)
    return Trainer(run, resolve(run, dataset.vocab_size), dataset, precision, record).step


def their_step(run: TrainConfig, dataset: Dataset) -> Callable[[], None]:
    """The same step of a GPT-2 from transformers, fed by the same loader."""
    import transformers

    sizes, training = run.model, run.training
    shape = transformers.GPT2Config(
        vocab_size=dataset.vocab_size,
        n_positions=sizes.block_size,
        n_embd=sizes.d_model,
        n_layer=sizes.n_layer,
        n_head=sizes.n_head,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(shape).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    done = 0

    def step() -> None:
        nonlocal done
        batch = dataset.train_batch(done, training.batch_size, sizes.block_size, run.seed)
        logits = model(batch.inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm or 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += 1

    return step


def measure(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """ms per step of each contender, one value per turn; the first turn of each is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, step in contenders.items():
            began = time.perf_counter()
            for _ in range(TURN):
                step()
            if round_:
                times[name].append((time.perf_counter() - began) * 1000 / TURN)
    return times


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(given["source"], int(given.get("rounds", "15")), given.get("train", "true") == "true")
