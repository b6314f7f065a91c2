"""Options of the test run: ``--plugin my_module`` lets the contract tests run over variants registered outside the
project; ``-n 2 --dist loadgroup`` spreads the tests over two processes."""

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


def pytest_report_header(config):
    return f"pairings drawn with PAIRINGS_SEED={os.environ.get('PAIRINGS_SEED', '0')}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What stays together in one process: a file, whose fixtures are built once; of the contracts, a case."""
    for item in items:
        cases = item.path.name == "test_component_contracts.py"
        item.add_marker(pytest.mark.xdist_group(str(item.callspec.params["case"]) if cases else item.path.name))


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
