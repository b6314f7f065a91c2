"""How long ``minigpt inspect`` takes for many checkpoints: python -m benchmarks.inspect_speed --count 1000.

Writes, into a folder of its own, runs of a sweep with two checkpoints each, nanoGPT files and Hugging Face folders,
with the heads of real ones and weights of a few bytes; then lists them in a fresh process, three times.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minigpt.checkpoint_folder import replace_checkpoint
from minigpt.report.listing import Listing
from minigpt.training.record import RunRecord

ROOT = Path(__file__).parents[1]
LAYERS = 12
NAMES = ("attention.q", "attention.k", "attention.v", "attention.o", "mlp.up", "mlp.down", "mlp.gate", "norm")
SOFTMAXES = ("softmax", "consmax", "relumax")


def make_runs(folder: Path, count: int) -> None:
    """Runs as a sweep over softmax, rate and seed leaves them, each with best and last."""
    roles = {f"blocks.{i}.{name}.weight": "weight" for i in range(LAYERS) for name in NAMES}
    for i in range(count):
        place, softmax, rate = folder / f"sweep{i // 100}" / f"trial-{i:04}", SOFTMAXES[i % 3], 1e-3 * (1 + i % 5)
        place.mkdir(parents=True)
        model = "".join(f"  {key}: {value}\n" for key, value in (("d_model", 128), ("n_head", 4), ("n_layer", LAYERS)))
        axes = "".join(f"axis{n}:\n  name: axis{n}_a\n  width: 1\n  depth: null\n" for n in range(14))
        text = f"data:\n  name: pydocs\nmodel:\n{model}softmax:\n  name: {softmax}\n{axes}"
        text += f"optimizer:\n  name: adamw\n  lr: {rate}\ntraining:\n  max_steps: 400\nseed: {i}\nblocks: {{}}\n"
        (place / "config.yaml").write_text(text)
        RunRecord(
            name=place.name, status="completed", config_hash=str(i), seed=i, val_loss=2 + i % 7 / 10, best_val_loss=2.0,
            best_step=300, bits_per_byte=1.5, steps=400, parameters=1_000_000, tokens_seen=10**6, folder=place,
            overrides={"softmax": softmax, "optimizer.lr": rate, "seed": i}, tokens_per_second=1e4,
            code={f"axis{n}=axis{n}_a": "0" * 64 for n in range(14)}, scores={"builtin_words.acc": 0.5},
        ).write()  # fmt: skip
        for name in ("best", "last"):
            writers = {n: (lambda file: file.write_bytes(b"{}")) for n in ("model.json", "model.safetensors")}
            meta = {"step": 400, "val_loss": 2.0, "parameters": 1_000_000, "roles": roles}
            replace_checkpoint(place / "checkpoint" / name, writers, meta)


def make_nanogpt(folder: Path, count: int) -> None:
    """``ckpt.pt`` of GPT-2's shape, twelve layers and their optimizer state, a number a tensor."""
    import torch

    names = [f"transformer.h.{i}.{name}.weight" for i in range(LAYERS) for name in NAMES]
    model = {name: torch.zeros(1) for name in names}
    moments = {"step": torch.zeros(()), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}
    state = {i: {name: tensor.clone() for name, tensor in moments.items()} for i in range(len(names))}
    sizes = {"n_layer": LAYERS, "n_head": 12, "n_embd": 768, "block_size": 1024, "vocab_size": 50304, "bias": False}
    content = {"model": model, "optimizer": {"state": state}, "model_args": sizes, "iter_num": 5, "best_val_loss": 3.0}
    first = folder / "nanogpt-0" / "ckpt.pt"
    for i in range(count):
        file = folder / f"nanogpt-{i}" / "ckpt.pt"
        file.parent.mkdir(parents=True)
        if i == 0:
            torch.save(content, file)
        else:
            file.write_bytes(first.read_bytes())


def make_huggingface(folder: Path, count: int) -> None:
    """Folders with GPT-2's config.json and the header of its safetensors."""
    header = {
        f"h.{i}.{name}.weight": {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
        for n, (i, name) in enumerate((i, name) for i in range(LAYERS) for name in NAMES)
    }
    text = json.dumps(header).encode()
    for i in range(count):
        place = folder / f"hf-{i}"
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": LAYERS, "n_embd": 768}))
        (place / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4 * len(header))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_nanogpt(folder, count // 10)
        make_huggingface(folder, count // 10)
        make_runs(folder, count - 2 * (count // 10))
        command = [sys.executable, "-m", "minigpt", "inspect", "--directory", str(folder), "--sort", "loss"]
        seconds, before = [], resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(3):
            started = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            seconds.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3
        print(done.stdout.splitlines()[-1])
        print(f"{statistics.median(seconds):.2f} s in a fresh process, {busy:.2f} s of them on a core")
        started = time.perf_counter()
        found = Listing(folder).entries()
        print(f"{time.perf_counter() - started:.2f} s of it to read {len(found)} of them")


if __name__ == "__main__":
    main()
