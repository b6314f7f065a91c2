"""What a stranger's files are made from: a dataset, a run, a Hugging Face folder and a nanoGPT checkpoint that are in
order, made once; and a call of any command that is watched."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from minigpt.cli.console import main
from minigpt.cli.entry import reported_errors
from minigpt.exchange.config import ExportConfig, ImportConfig
from minigpt.exchange.exporting import export
from minigpt.exchange.importing import import_
from minigpt.generation.config import SampleConfig
from minigpt.generation.sample import sample
from minigpt.report.inspection import InspectConfig, inspect
from minigpt.schema import typed

TEXT = "the quick brown fox jumps over a lazy dog, five times each\n" * 60
DIRECTLY = {
    "sample": (SampleConfig, sample),
    "import": (ImportConfig, import_),
    "export": (ExportConfig, export),
    "inspect": (InspectConfig, inspect),
}
"""Commands that are called past Hydra, which would take most of the time. The others go the whole way."""
TRAINED = (
    "train data.name=words data.val_tokens=200 name=run device=cpu training.threads=1 training.max_steps=4 "
    "training.batch_size=2 training.eval_interval=2 model.d_model=16 model.n_head=2 model.n_layer=2 model.block_size=16"
)
PATIENCE = 60  # seconds that any refusal may take on a busy machine
MEMORY = 700 << 20  # bytes that any refusal may take


@dataclasses.dataclass(frozen=True)
class World:
    """Folders to copy from. data: of datasets, the one named words and nanoGPT's nano. run: trained for a few steps.
    hf: its model for transformers. ckpt: a folder with nanoGPT's ckpt.pt."""

    data: Path
    run: Path
    hf: Path
    ckpt: Path


def make_world(base: Path) -> World:
    """All of it, in a folder of its own; some seconds."""
    (base / "words.txt").write_text(TEXT)
    with inside(base):
        for words in ("prepare source=words.txt name=words", TRAINED):
            done = called(*words.split())
            assert done.code == 0, done.text
    export(ExportConfig(checkpoint=str(base / "out" / "run"), out=str(base / "hf"), format="hf", family="llama"))
    _nanogpt(base)
    return World(base / "data", base / "out" / "run", base / "hf", base / "ckpt")


def _nanogpt(base: Path) -> None:
    """A checkpoint as nanoGPT's train.py saves it, and its dataset."""
    import pickle

    import numpy as np

    characters = sorted(set(TEXT))
    stoi = {c: i for i, c in enumerate(characters)}
    folder = base / "data" / "nano"
    folder.mkdir()
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    tokens = np.array([stoi[c] for c in TEXT], dtype=np.uint16)
    tokens[:-400].tofile(folder / "train.bin")
    tokens[-400:].tofile(folder / "val.bin")
    args = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "bias": False, "vocab_size": len(characters)}
    args |= {"dropout": 0.0}
    (base / "ckpt").mkdir()
    torch.save(nanogpt_content(args), base / "ckpt" / "ckpt.pt")


def nanogpt_content(args: dict) -> dict:
    d, n, v = args["n_embd"], args["block_size"], args["vocab_size"]
    table = torch.randn(v, d)
    model = {"transformer.wte.weight": table, "transformer.wpe.weight": torch.randn(n, d), "lm_head.weight": table}
    model["transformer.ln_f.weight"] = torch.ones(d)
    for name, shape in {
        "ln_1.weight": (d,),
        "attn.c_attn.weight": (3 * d, d),
        "attn.c_proj.weight": (d, d),
        "ln_2.weight": (d,),
        "mlp.c_fc.weight": (4 * d, d),
        "mlp.c_proj.weight": (d, 4 * d),
    }.items():
        model[f"transformer.h.0.{name}"] = torch.randn(*shape)
    config = {"dataset": "nano", "batch_size": 2, "learning_rate": 1e-3}
    return {"model": model, "optimizer": {}, "model_args": args, "iter_num": 5, "best_val_loss": 2.5, "config": config}


@dataclasses.dataclass(frozen=True)
class Done:
    """How a command ended. error: what it raised beyond what commands may raise."""

    code: int
    text: str
    error: str = ""


def _run(words: list[str]) -> None:
    command, *given = words
    if command not in DIRECTLY or any("=" not in word for word in given):
        main(words)
        return
    config, call = DIRECTLY[command]
    keys = dict(word.split("=", 1) for word in given)
    with reported_errors():
        call(typed(config, {key: yaml.safe_load(value) for key, value in keys.items()}))


class Terminal(io.StringIO):
    """What text is printed to, and takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def called(*words: str, terminal: bool = False) -> Done:
    """A command of minigpt in this process, as a person types it."""
    said = Terminal() if terminal else io.StringIO()
    before = sys.argv, dict(os.environ)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            _run(list(words))
        return Done(0, said.getvalue())
    except SystemExit as end:
        return Done(int(end.code or 0), said.getvalue())
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, pytest.fail.Exception)):
            raise
        return Done(1, said.getvalue(), f"{type(error).__name__}: {str(error)[:300]}")
    finally:
        sys.argv[:] = before[0]
        os.environ.clear()
        os.environ.update(before[1])


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def watched(seconds: int = PATIENCE) -> Iterator[None]:
    """Context in which nothing may hang or take the machine's memory."""

    def late(*_: object) -> None:
        pytest.fail(f"no answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (4 << 30), limits[1]))  # before it takes the machine's
    signal.alarm(seconds)
    start = time.monotonic()
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < seconds, "it hung"  # whoever caught what the alarm raised
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - largest) * 1024
    assert grown < MEMORY, f"took {grown >> 20} MiB"


def snapshot(folder: Path) -> dict[str, str]:
    """What is in a folder, to see later that nobody was there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.stat().st_size < 1 << 24 else "big"
        else:
            found[str(path)] = "folder"
    return found


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True)
    return target
