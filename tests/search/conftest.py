"""A small dataset, a plugin with norms that misbehave, and the command line with models that train in a blink."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from minigpt import cli, config, registry
from minigpt.config import TrainConfig
from minigpt.data.preparation import PrepareConfig, prepare
from tests.warm import python

ROOT = Path(__file__).parents[2]
NORMS = '''
"""Norms that misbehave in training. They build like any other, so that no check can see it."""

import os, signal, time
from pathlib import Path
import torch
from minigpt.components.norm.rmsnorm import RMSNorm
from minigpt.registry import register

@register("norm", "raising")
class Raising(RMSNorm):
    """Raises in the first forward pass."""
    def forward(self, x):
        raise RuntimeError("no norm today")

@register("norm", "diverging")
class Diverging(RMSNorm):
    """Not a number."""
    def forward(self, x):
        return super().forward(x) * float("nan")

@register("norm", "hungry")
class Hungry(RMSNorm):
    """Out of memory."""
    def forward(self, x):
        raise torch.OutOfMemoryError("tried to allocate everything")

@register("norm", "dying")
class Dying(RMSNorm):
    """Kills its process, until the file ``mended`` is there."""
    def forward(self, x):
        if not Path("mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

@register("norm", "slow")
class Slow(RMSNorm):
    """A third of a second per call, until the file ``mended`` is there."""
    def forward(self, x):
        time.sleep(0.0 if Path("mended").exists() else 0.3)
        return super().forward(x)
'''


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """A folder with the prepared dataset ``words``."""
    folder = tmp_path_factory.mktemp("words")
    words = random.Random(1)
    text = " ".join(words.choice(["the", "quick", "brown", "fox", "jumps", "over", "a", "dog"]) for _ in range(4000))
    (folder / "words.txt").write_text(text, encoding="utf-8")
    keys = {"source": str(folder / "words.txt"), "name": "words", "folder": str(folder / "data")}
    prepare(PrepareConfig(**keys), say=lambda line: None)
    return folder / "data"


@pytest.fixture
def hydra():
    """Hydra with everything it can compose, as in an entry point."""
    cli.store_components()
    cli.store_explorations()
    with initialize_config_dir(str(cli.CONF), version_base=None):
        yield


@pytest.fixture
def configure(data_folder) -> Callable[..., TrainConfig]:
    """configure(model={...}, softmax="consmax", ...) -> a checked configuration of one tiny layer."""

    def configure(**changes: Any) -> TrainConfig:
        content: dict[str, Any] = {
            axis: registry.axis_named(axis).default for axis in registry.axes() if registry.axis_named(axis).default
        }
        content["data"] = {"name": "words", "folder": str(data_folder), "val_tokens": 200}
        content["model"] = {"d_model": 16, "n_head": 2, "n_layer": 1, "block_size": 8}
        content["training"] = {"max_steps": 3, "batch_size": 2}
        for key, value in changes.items():
            merged = isinstance(value, dict) and isinstance(content.get(key), dict)
            content[key] = content[key] | value if merged else value
        return config.check(content, TrainConfig)

    return configure


class CommandLine:
    """The project's commands in a folder of their own, on tiny models; ``mended`` mends the norms that can be."""

    def __init__(self, folder: Path, data: Path):
        self.folder = folder
        self._environment = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "COLUMNS": "150"}
        (folder / "failing_norms.py").write_text(NORMS, encoding="utf-8")
        self.tiny = (
            f"data.name=words data.folder={data} data.val_tokens=200 model.d_model=16 model.n_head=2 model.n_layer=1 "
            "model.block_size=8 training.max_steps=3 training.batch_size=2 device=cpu"
        ).split()

    def start(self, command: str, *arguments: str, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / command), *self._words(arguments)],
            cwd=self.folder,
            env=os.environ | self._environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def _words(self, arguments: Sequence[str]) -> list[str]:
        """Flags, the keys of tiny models that are not given, those given."""
        flags = [argument for argument in arguments if argument.startswith("-")]
        keys = [argument for argument in arguments if not argument.startswith("-")]
        said = {argument.partition("=")[0] for argument in keys}
        return [*flags, *(word for word in self.tiny if word.partition("=")[0] not in said), *keys]

    def __call__(self, command: str, *arguments: str) -> tuple[int, str]:
        """Run it to its end: (exit code, everything it printed)."""
        done = python(ROOT / command, *self._words(arguments), cwd=self.folder, env=self._environment, together=True)
        return done.returncode, done.stdout

    def mend(self) -> None:
        (self.folder / "mended").touch()


@pytest.fixture
def command_line(tmp_path, data_folder) -> CommandLine:
    return CommandLine(tmp_path, data_folder)
