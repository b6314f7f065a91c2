"""docs/describe_an_accelerator.md works as it is written: its file is saved, its commands are run."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from minigpt.errors import UserError
from minigpt.hardware import from_plain, load
from minigpt.hardware.spec import FOLDER, HardwareSpec

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "describe_an_accelerator.md").read_text(encoding="utf-8")
(MACHINE,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
TINY = [
    "model.d_model=32",
    "model.n_layer=1",
    "model.block_size=32",
    "data.val_tokens=512",
    f"data.folder={ROOT / 'data'}",
]


def test_the_page_s_machine_prices_runs_by_name_and_by_path(tmp_path, monkeypatch, capsys):
    (tmp_path / "conf" / "hardware").mkdir(parents=True)
    (tmp_path / "conf" / "hardware" / "tiny_sram.yaml").write_text(MACHINE)
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS.splitlines():
        _, script, *words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [script, *words, *(TINY if script == "train.py" else [])])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        assert not end.value.code, capsys.readouterr().err
    assert "mJ/token" in capsys.readouterr().out
    chip, dram = (json.loads((tmp_path / "out" / f / "report.json").read_text()) for f in ("two/ppa", "dram"))
    assert chip["hardware"]["name"] == dram["hardware"]["name"] == "tiny_sram"
    for on_chip, off_chip in zip(chip["rows"], dram["rows"], strict=True):
        assert on_chip["energy_mj"] < off_chip["energy_mj"]
        assert on_chip["area_mm2"] > off_chip["area_mm2"]


def test_every_key_the_page_explains_is_one(tmp_path):
    machine = from_plain(yaml.safe_load(MACHINE))
    known = {field.name for part in (machine, machine.matrix, machine.vector, machine.memory, machine.constants)
             for field in dataclasses.fields(part)}  # fmt: skip
    table = PAGE[PAGE.index("## What each part decides") :]
    words = {word.rpartition(".")[2].partition(":")[0] for word in re.findall(r"`([\w.:]+)[^`]*`", table)}
    assert words - known == {"verified"} & words
    assert isinstance(machine, HardwareSpec)


def test_what_the_page_says_is_refused_is_refused(tmp_path):
    content = yaml.safe_load(MACHINE)
    with pytest.raises(UserError, match="arithmetic alone would take"):
        from_plain(content | {"tdp_w": 0.001})
    content["constants"]["leakage"]["high"] = 0.001
    with pytest.raises(UserError, match="lies outside its own interval"):
        from_plain(content)


def test_a_machine_is_read_from_a_path_and_a_torn_file_is_said(tmp_path):
    (tmp_path / "mine.yaml").write_text(MACHINE)
    assert load(str(tmp_path / "mine.yaml")).name == "tiny_sram"
    (tmp_path / "mine.yaml").write_text("name: [")
    with pytest.raises(UserError, match=r"mine\.yaml: not YAML"):
        load(str(tmp_path / "mine.yaml"))
    assert (FOLDER / "edge_16nm.yaml").is_file()
