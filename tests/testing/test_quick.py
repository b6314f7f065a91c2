"""The quick check: a variant from outside that sees the future is refused before anything trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt.model import ModelSpec
from minigpt.testing import make_spec
from minigpt.testing.quick import chosen_parts, quick_check
from tests.warm import python

ROOT = Path(__file__).parent.parent.parent
TRY = """
import sys, time
import torch
from minigpt.errors import UserError
from minigpt.plugins import load_plugins
from minigpt.testing import make_spec
from minigpt.testing.quick import quick_check

load_plugins(["cheats", "honest"])
axis, name, d_model = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(7)
spec = make_spec(n_layer=12, d_model=int(d_model), n_head=12, vocab_size=5000, block_size=1024, **{axis: name})
quick_check(spec)  # warms up
start = time.monotonic()
quick_check(spec)
print(time.monotonic() - start)
assert torch.initial_seed() == 7
"""


def tried(axis: str, name: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "tests" / "testing"), str(ROOT)])
    return python("-c", TRY, axis, name, "768", env={"PYTHONPATH": path})


@pytest.mark.parametrize("cheat", [("attention", "leak_training"), ("attention", "leak_long"), ("norm", "leak_mean")])
def test_a_leak_is_refused(cheat):
    done = tried(*cheat)
    assert f"{'='.join(cheat)}: sees the future: tokens from" in done.stderr
    assert f"Find it with: minigpt check cheats {'='.join(cheat)}" in done.stderr


def test_a_cache_that_says_something_else_is_refused():
    assert "mlp=looks_back: says something else from its cache than in full" in tried("mlp", "looks_back").stderr


def test_an_honest_variant_passes_within_a_second_even_in_a_large_model():
    done = tried("norm", "manifold")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1


BREAKS = """
import torch
from minigpt.components.norm.rmsnorm import RMSNorm
from minigpt.registry import register
from minigpt.testing import make_spec
from minigpt.testing.quick import quick_check

@register("norm", "wrong")
class Wrong(RMSNorm):
    def forward(self, x):
        raise KeyError("the plugin's own")

@register("norm", "hungry")
class Hungry(RMSNorm):
    def forward(self, x):
        raise torch.OutOfMemoryError("all of it")

quick_check(make_spec(norm="hungry"))  # is left to training, which records it
try:
    quick_check(make_spec(norm="wrong"))
except KeyError as error:
    print(error)
"""


def test_a_plugin_s_own_error_comes_out_and_running_out_of_memory_is_left_to_training():
    done = subprocess.run([sys.executable, "-c", BREAKS], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == '"the plugin\'s own"', done.stderr


def test_shipped_parts_are_not_tried(monkeypatch):
    monkeypatch.setattr("minigpt.testing.quick.create", None)
    quick_check(make_spec())


def test_parts_are_found_wherever_they_are_chosen():
    spec: ModelSpec = make_spec(sites={"norm": {"qk": "dyt"}}, attention={"name": "causal", "qk_norm": True})
    assert {"norm=dyt", "norm=rmsnorm", "embedding=table"} <= {f"{p.axis}={p.name}" for p in chosen_parts(spec)}
