"""The contracts catch what they are for: every cheat breaks the very contract that names its fault."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.warm import python

ROOT = Path(__file__).parent.parent
PLUGINS = ROOT / "tests" / "testing"
FILES = sorted(PLUGINS.glob("cheats*.py"))
CHEATS = [v for f in FILES for v in re.findall(r'^@register\("(\w+)", "(\w+)"\)', f.read_text(), flags=re.MULTILINE)]
TRY_THEM = """
import json, sys
from minigpt import registry
from minigpt.plugins import load_plugins
from minigpt.testing import CONTRACTS, all_cases
from minigpt.testing.command import broken, chosen

load_plugins(sys.argv[1:])
found = {}
for axis, name in chosen(sys.argv[1:], []):
    contract = CONTRACTS[registry.get(axis, name).caught_by]
    sentences = [broken(contract, case) for case in all_cases([(axis, name)]) if contract.applies(case)]
    found[f"{axis}={name}"] = [contract.name, *filter(None, sentences)]
print(json.dumps(found))
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Python with the plugins of this folder to be found; they stay out of the registry of the tests themselves."""
    return python(*words, env={"PYTHONPATH": os.pathsep.join([str(PLUGINS), str(ROOT)])})


@pytest.fixture(scope="module")
def caught() -> dict[str, list[str]]:
    """Variant -> the contract that should refuse it, and what it said."""
    done = run("-c", TRY_THEM, *(file.stem for file in FILES))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("cheat", CHEATS, ids="=".join)
def test_a_cheat_breaks_the_contract_that_names_its_fault(caught, cheat):
    contract, *sentences = caught["=".join(cheat)]
    assert sentences, f"{contract} holds"


def test_check_lists_contracts_and_variants_and_says_what_is_broken():
    done = run("-m", "minigpt", "check", "cheats", "norm=no_parameters", "norm=idle_option")
    assert done.returncode == 1, done.stderr
    assert re.search(r"parameters\s*│ FAIL\s*│ pass", done.stdout)
    assert re.search(r"options\s*│ pass\s*│ FAIL", done.stdout)
    assert re.search(r"norm=no_parameters: parameters: cost\(\) says \d+ parameters, there are \d+", done.stdout)
    assert "norm=idle_option,strength=0.5: options: strength=0.5 changes no output" in done.stdout


def test_check_passes_variants_that_are_hard_to_judge_and_in_order():
    done = run("-m", "minigpt", "check", "honest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"2 variants hold all \d\d contracts", done.stdout)


def test_check_passes_variants_that_lean_on_what_layers_share():
    named = re.findall(r'^@register\("(\w+)", "(\w+)"\)', (ROOT / "tests" / "seams.py").read_text(), flags=re.MULTILINE)
    done = run("-m", "minigpt", "check", "tests.seams", *("=".join(v) for v in named if v[1] != "needy"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no_such_plugin"], "no module 'no_such_plugin'"),
        (["norm=rmsnrom"], "Did you mean 'rmsnorm'"),
        (["optimizer=adamw"], "there are no contracts for 'optimizer'"),
    ],
)
def test_check_says_what_it_cannot_find(words, sentence):
    done = run("-m", "minigpt", "check", *words)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
