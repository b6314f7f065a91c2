"""Files of one's own: by their path, or in conf/ of the folder one starts from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from minigpt.cli import console
from minigpt.cli.choices import known_word
from minigpt.shipped import CONF

EDGE = (CONF / "hardware" / "edge_16nm.yaml").read_text()
SEARCH = "search:\n  space: {model.n_layer: {step: 1}}\n"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("conf/hardware", "conf/search", "conf/model", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def ended(capsys, monkeypatch, *words: str) -> tuple[int, str, str]:
    """(exit code, output, errors) of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["minigpt", *words])
    with pytest.raises(SystemExit) as end:
        console.main()
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def composed(capsys, monkeypatch, *words: str) -> dict[str, Any]:
    code, out, err = ended(capsys, monkeypatch, *words, "--cfg", "job")
    assert code == 0, err
    return yaml.safe_load(out)


def refused(capsys, monkeypatch, *words: str) -> str:
    code, out, err = ended(capsys, monkeypatch, *words)
    assert (code, out) == (2, "")
    return err


@pytest.mark.parametrize("word", ["mine", "./conf/hardware/mine.yaml", "elsewhere/mine.yaml"])
def test_a_machine_may_lie_in_conf_here_or_be_given_by_its_path(here, capsys, monkeypatch, word):
    (here / "conf/hardware/mine.yaml").write_text(EDGE.replace("tdp_w: 5", "tdp_w: 6"))
    (here / "elsewhere/mine.yaml").write_text(EDGE.replace("tdp_w: 5", "tdp_w: 7"))
    tdp = composed(capsys, monkeypatch, "report", "ppa", f"hardware={word}", "hardware.clock_mhz=900")["hardware"]
    assert (tdp["tdp_w"], tdp["clock_mhz"]) == (7 if "elsewhere" in word else 6, 900)


@pytest.mark.parametrize("head", ["", "# @package _global_\n"])
@pytest.mark.parametrize("word", ["mine", "conf/search/mine.yaml"])
def test_a_search_needs_no_package_line(here, capsys, monkeypatch, word, head):
    (here / "conf/search/mine.yaml").write_text(head + SEARCH + "study: my_study\n")
    found = composed(capsys, monkeypatch, "search", f"search={word}")
    assert (found["search"]["space"], found["study"]) == ({"model.n_layer": {"step": 1}}, "my_study")


def test_a_search_may_also_say_its_keys_alone(here, capsys, monkeypatch):
    (here / "mine.yaml").write_text("space: {model.n_layer: {step: 1}}\nrounds: 7\n")
    assert composed(capsys, monkeypatch, "search", "search=mine.yaml")["search"]["rounds"] == 7


def test_a_model_by_path_may_choose_on_axes(here, capsys, monkeypatch):
    (here / "m.yaml").write_text("defaults: [override /norm: dyt]\nmodel: {d_model: 24}\n")
    found = composed(capsys, monkeypatch, "train", "model=m.yaml", "norm.alpha_init=0.25")
    assert (found["model"]["d_model"], found["norm"]["name"], found["norm"]["alpha_init"]) == (24, "dyt", 0.25)


def test_an_exploration_by_path_sweeps(here, capsys, monkeypatch):
    (here / "e.yaml").write_text("hydra: {sweeper: {params: {softmax: 'softmax,nonsense'}}}\n")
    assert "there is no softmax named 'nonsense'" in refused(capsys, monkeypatch, "train", "explorations=e.yaml")


def test_two_files_of_one_name_are_two_choices(here):
    for folder in ("conf/model", "elsewhere"):
        (here / folder / "m.yaml").write_text("d_model: 8\n")
    words = {known_word("model", word) for word in ("m", "elsewhere/m.yaml", "conf/model/m.yaml")}
    assert len(words) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "ppa", "hardware=nope.yaml"], "hardware: there is no file nope.yaml. A path counts from"),
        (["report", "ppa", "hardware=torn.yaml"], "torn.yaml: not YAML: "),
        (["report", "ppa", "hardware=list.yaml"], "list.yaml: not YAML: expected keys and values"),
        (["report", "ppa", "hardware=bytes.yaml"], "bytes.yaml: not UTF-8 text"),
        (["report", "ppa", "hardware=other.yaml"], "hardware.flavour: unknown key 'flavour'"),
        (
            ["report", "ppa", "hardware=edge_16nm"],
            "minigpt has one of this name. Rename the file, or give its path: hard",
        ),
        (["report", "ppa", "hardware=min"], "there is no hardware named 'min'. Did you mean 'mine'?"),
        (["train", "norm=other.yaml"], "there is no norm named 'other.yaml'"),
    ],
)
def test_a_file_that_is_none_is_said(here, capsys, monkeypatch, words, message):
    (here / "torn.yaml").write_text("a: [1")
    (here / "list.yaml").write_text("- a\n")
    (here / "bytes.yaml").write_bytes(b"\xff\xfe")
    (here / "other.yaml").write_text("flavour: 1\n")
    for name in ("edge_16nm", "mine"):
        (here / f"conf/hardware/{name}.yaml").write_text(EDGE)
    assert message in refused(capsys, monkeypatch, *words)


def test_a_file_of_hydras_own_folder_that_stands_in_the_wrong_place_is_told_the_line(here, capsys, monkeypatch):
    (here / "elsewhere" / "search").mkdir()
    (here / "elsewhere/search/misplaced.yaml").write_text(SEARCH)
    message = refused(capsys, monkeypatch, "search", "search=misplaced", "--config-dir", "elsewhere")
    assert "Let its first line be '# @package _global_'" in message


def test_a_prepared_dataset_is_said_by_name(here, capsys, monkeypatch):
    (here / "data" / "mine").mkdir(parents=True)
    (here / "data/mine/meta.json").write_text("{}")
    assert "Say data.name=mine" in refused(capsys, monkeypatch, "train", "data=mine")
    (here / "data").rename(here / "sets")
    assert "Say data.folder=sets data.name=mine" in refused(capsys, monkeypatch, "train", "data=sets/mine")


def test_help_lists_them(here, capsys, monkeypatch):
    (here / "conf/hardware/mine.yaml").write_text(EDGE)
    monkeypatch.setattr(sys, "argv", ["minigpt", "report", "ppa", "--help"])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        console.main()
    assert "a100_80g, edge_16nm, h100_sxm, mine" in capsys.readouterr().out
