"""``python -m minigpt``: the catalogue of what is registered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest

from minigpt import catalogue, registry
from minigpt.cli.console import main
from minigpt.schema import PositiveInt, Probability, Range
from tests.warm import python


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    root = Path(__file__).parents[2]
    return python("-m", "minigpt", *arguments, cwd=cwd or root)


def printed(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 0
    return capsys.readouterr().out


def test_reports_are_listed(capsys):
    assert printed(capsys, "report") == printed(capsys, "report", "--help")
    assert [line.split()[2] for line in printed(capsys, "report").splitlines()] == ["ppa", "curves", "catalogue"]


def test_the_overview_lists_every_name_of_every_axis_without_torch(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    lines = printed(capsys, "components").splitlines()
    for axis in registry.axes():
        for name in registry.names(axis):
            assert any(f" {name} " in line for line in lines), (axis, name)
    script = "import sys; from minigpt.cli.console import main; main(['components']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


@pytest.mark.parametrize("axis", registry.axes())
def test_an_axis_shows_every_variant_with_its_options(axis, capsys):
    text = printed(capsys, "components", axis)
    for name in registry.names(axis):
        assert f"{axis}={name}" in text
        for option in registry.entry(axis, name).config.__dataclass_fields__:
            assert (f"{axis}.{name}.{option}=" if axis == "clean" else f"{axis}.{option}=") in text  # steps by name
    assert (
        registry.axis_named(axis).default is None or f"{axis}={registry.axis_named(axis).default} (the default)" in text
    )


def test_json_holds_what_is_known_of_every_variant(capsys):
    entries = {(e["axis"], e["name"]): e for e in json.loads(printed(capsys, "components", "--json"))}
    assert set(entries) == {(axis, name) for axis in registry.axes() for name in registry.names(axis)}
    assert all(entry["summary"] for entry in entries.values())
    consmax = entries["softmax", "consmax"]
    assert consmax["papers"] == ["2402.10930"]
    assert {"name": "beta_init", "values": "number >= -10000 and <= 10000", "default": 2.5} in consmax["options"]
    assert consmax["learned"] == {"beta": [1], "log_gamma": [1]}
    assert (consmax["facts"]["fused"], consmax["facts"]["normalised"], consmax["facts"]["reductions"]) == (
        False,
        False,
        0,
    )
    causal = entries["attention", "causal"]
    assert set(causal["facts"]["uses"]) == {"softmax", "linear", "position", "quantiser"}
    assert causal["learned"]["q.weight"] == [128, 128]
    assert (causal["cache"], causal["cache_bytes"]) == ("KVCache", 2 * 128 * 128 * 4)
    assert entries["attention", "identity"]["cache"] is None
    assert entries["position", "rope"]["facts"]["places"] == ["rotary"]
    assert entries["position", "nope"]["learned"] == {}


def test_one_axis_as_json_is_only_that_axis(capsys):
    assert {entry["axis"] for entry in json.loads(printed(capsys, "components", "norm", "--json"))} == {"norm"}


def test_a_wrong_axis_is_answered_with_the_nearest_and_exit_code_2():
    done = run("components", "sofmax")
    assert done.returncode == 2
    assert "there is no axis named 'sofmax'. Did you mean 'softmax'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert done.stdout == ""


def test_a_variant_from_outside_is_listed_like_our_own(tmp_path):
    (tmp_path / "my_norm.py").write_text(
        "from minigpt.components.norm.rmsnorm import RMSNorm\n"
        "from minigpt.registry import register\n"
        "from minigpt.schema import options\n"
        '@register("norm", "mine")\n'
        "class Mine(RMSNorm):\n"
        '    """y = x, nearly.  Nobody 2026, arXiv:2601.00001."""\n'
        "    @options\n"
        "    class Config(RMSNorm.Config):\n"
        "        eps: float = 1e-3\n"
    )
    root = Path(__file__).parents[2]
    script = f"import sys; sys.path.insert(0, {str(root)!r}); from minigpt.cli.console import main; "
    script += "main(['components', 'norm', '--json', '--plugins', 'my_norm'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    (mine,) = [entry for entry in json.loads(done.stdout) if entry["name"] == "mine"]
    assert (mine["summary"], mine["papers"], mine["learned"]) == ("y = x, nearly", ["2601.00001"], {"gain": [128]})
    done = run("components", "norm", "--plugins", "no_such_module")
    assert (done.returncode, "no module 'no_such_module'" in done.stderr) == (2, True)


def test_help_names_the_commands_and_the_entry_points(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "components" in text
    for script in ("train.py", "sample.py", "hyperparam_search.py", "data/prepare.py", "inspect_ckpts.py"):
        assert script in text


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (PositiveInt, "whole number >= 1"),
        (PositiveInt | None, "whole number >= 1, or null"),
        (Probability, "number >= 0 and < 1"),
        (Annotated[float, Range(gt=0)] | Literal["auto"], "number > 0 or auto"),
        (Literal["zero", "input"], "zero | input"),
        (bool, "true | false"),
        (list[str], "list of text"),
    ],
)
def test_what_an_option_may_be_is_said_in_words(hint, words):
    assert catalogue.in_words(hint) == words
