"""Options of the test run: ``--plugin my_module`` lets the contract tests run over variants registered outside the
project; ``--part 1/2`` and ``--part 2/2`` are all tests, for two processes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

# Nothing a test starts may wait for a network.
os.environ.setdefault("WANDB_MODE", "offline")
# Small tensors: several threads of several processes would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a test starts is this checkout, wherever it starts it.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
)


def pytest_addoption(parser):
    parser.addoption(
        "--plugin", action="append", default=[], help="a module that registers components; may be repeated"
    )
    parser.addoption("--part", default="1/1", help="run the first, second ... of so many parts: 1/2")


def pytest_report_header(config):
    return (
        f"pairings drawn with PAIRINGS_SEED={os.environ.get('PAIRINGS_SEED', '0')}, part {config.getoption('--part')}"
    )


def pytest_collection_modifyitems(config, items):
    """Keep one part of the tests: whole files are dealt out in turns, and the contracts' case by case."""
    part, parts = map(int, config.getoption("--part").split("/"))

    def key(item):
        return str(item.callspec.params["case"]) if item.path.name == "test_component_contracts.py" else item.path.name

    turn = {each: i % parts for i, each in enumerate(dict.fromkeys(map(key, items)))}
    kept = [item for item in items if turn[key(item)] == part - 1]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def pytest_configure(config):
    from minigpt.plugins import load_plugins

    # A shell that starts us in the background has SIGINT ignored, and everything we start would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    load_plugins(config.getoption("--plugin"))


@pytest.fixture(autouse=True)
def _plugins_of_one_test():
    """What a test registers from outside is unknown to the next."""
    from minigpt.plugins import unloaded_afterwards

    with unloaded_afterwards():
        yield


@pytest.fixture
def make_disk(tmp_path):
    """make_disk("64k") -> the folder of a disk of that size; skips where a disk may not be mounted."""
    mounted = []

    def make_disk(size, options="rw"):
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "none", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a disk")
        mounted.append(place)
        return place

    yield make_disk
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)
