"""Options of the test run: ``--plugin my_module`` lets the contract tests run over variants registered outside the
project."""

from __future__ import annotations

import os

# Nothing a test starts may wait for a network.
os.environ.setdefault("WANDB_MODE", "offline")
# Small tensors: several threads of several processes would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser):
    parser.addoption(
        "--plugin", action="append", default=[], help="a module that registers components; may be repeated"
    )


def pytest_configure(config):
    from minigpt import registry

    registry.load_plugins(config.getoption("--plugin"))
