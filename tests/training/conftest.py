"""A dataset of a few thousand characters, and configurations of runs that take a second on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt import config, registry
from minigpt.config import TrainConfig
from minigpt.data.preparation import PrepareConfig, prepare

WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "naïve",
    "façades",
    "cost",
    "five",
    "€",
    "each",
)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """A folder with the prepared dataset ``words``: 40 000 characters that a small model learns something about."""
    folder = tmp_path_factory.mktemp("words")
    words = random.Random(1)
    text = " ".join(words.choice(WORDS) for _ in range(9000))
    (folder / "words.txt").write_text(text, encoding="utf-8")
    keys = {"source": str(folder / "words.txt"), "name": "words", "folder": str(folder / "data")}
    prepare(PrepareConfig(**keys), say=lambda line: None)
    return folder / "data"


@pytest.fixture
def configure(data_folder, tmp_path) -> Callable[..., TrainConfig]:
    """configure(model={...}, training={...}, ...) -> a checked run of 2 layers and 20 steps in tmp_path/out/run."""

    def configure(**changes: Any) -> TrainConfig:
        content: dict[str, Any] = {
            axis: {"name": registry.axis_named(axis).default}
            for axis in registry.axes()
            if registry.axis_named(axis).default
        }
        content |= {
            "data": {"name": "words", "folder": str(data_folder), "val_tokens": 1000},
            "model": {"d_model": 32, "n_head": 4, "n_layer": 2, "block_size": 16},
            "training": {"batch_size": 4, "max_steps": 20, "eval_interval": 10, "log_interval": 5, "threads": 1},
            "out": str(tmp_path / "out"),
            "name": "run",
            "device": "cpu",
        }
        for key, value in changes.items():
            both = isinstance(value, dict) and isinstance(content.get(key), dict)
            content[key] = content[key] | value if both else value
        return config.check(content, TrainConfig)

    return configure


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
