"""The table of runs and the view of one checkpoint: right numbers, in order, without torch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt.cli.inspect import main
from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint
from minigpt.testing import make_spec
from minigpt.training.record import RunRecord

SCRIPT = Path(__file__).parents[2] / "analysis" / "checkpoint_analysis" / "inspect_ckpts.py"


def record(folder: Path, **fields) -> None:
    folder.mkdir(parents=True)
    RunRecord(
        **({"name": folder.name, "status": "completed", "config_hash": "x", "seed": 0} | fields), folder=folder
    ).write()


@pytest.fixture
def out(tmp_path) -> Path:
    out = tmp_path / "out"
    record(out / "b", val_loss=2.5, best_val_loss=2.25, best_step=300, bits_per_byte=1.3, parameters=1_000, steps=400)
    record(out / "sweep" / "a", val_loss=1.5, parameters=2_000, steps=100, wall_seconds=90.0, overrides={"norm": "dyt"})
    record(out / "c", status="diverged", reason="loss is nan", val_loss=math.nan, steps=5, tokens_seen=1_234_567)
    record(out / "d", status="running", tokens_per_second=9876.5)
    return out


def show(*arguments: object) -> None:
    """The command in this process, to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["inspect_ckpts.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0


def shown(capsys, *arguments: object) -> str:
    show(*arguments)
    return capsys.readouterr().out


def names(capsys, *arguments: object) -> list[str]:
    return [Path(run["folder"]).name for run in json.loads(shown(capsys, "--json", *arguments))]


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["--sort", "loss"], "abcd"),
        (["--sort", "loss", "--reverse"], "bacd"),  # what has no loss stays last
        (["--sort", "name"], "bcda"),
        (["--sort", "step"], "dcab"),
        (["--sort", "params", "--reverse"], "abcd"),
        (["--sort", "time", "--reverse"], "abcd"),
        (["--sort", "loss", "--limit", "1"], "a"),
    ],
)
def test_runs_come_in_the_order_asked_for(out, capsys, arguments, order):
    assert names(capsys, "--directory", out, *arguments) == list(order)


def test_the_table_tells_what_each_run_was_and_reached(out, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    lines = shown(capsys, "--directory", out, "--sort", "loss").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    a, b, c, d = (next(row for row in rows if row[0] == name) for name in ("sweep/a", "b", "c", "d"))
    assert a[1:3] == ["completed", "1.5000"]
    assert a[-3:] == ["90", "s", "norm=dyt"]
    assert b[1:8] == ["completed", "2.5000", "2.2500", "300", "1.3000", "1,000", "400"]
    assert c[1:6] == ["diverged:", "loss", "is", "nan", "nan"]
    assert "1,234,567" in c
    assert d[1:3] == ["running", "-"]
    assert "9,876" in d
    assert lines[-1] == f"4 runs in {out}"


def test_a_torn_record_is_named_and_the_others_are_shown(out, capsys):
    (out / "b" / "run.json").write_text('{"name": "b", ')
    show("--directory", out, "--json")
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 3
    assert f"1 records could not be read:\n  {out / 'b' / 'run.json'}: not" in printed.err


def test_a_checkpoint_is_shown_tensor_by_tensor(tmp_path, capsys):
    model = GPT.create(make_spec(n_layer=12, d_model=8, n_head=2, norm="layernorm"))
    save_checkpoint(tmp_path / "run" / "checkpoint" / "last", model, tokenizer={}, meta={"step": 11, "val_loss": 1.25})
    answer = json.loads(shown(capsys, "--path", tmp_path / "run", "--json"))
    tensors = {each["name"]: each for each in answer["tensors"]}
    assert set(tensors) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        found, values = tensors[name], parameter.detach().double()
        assert found["shape"] == list(parameter.shape)
        assert found["role"] == model.roles()[name]
        numbers = torch.stack([values.mean(), values.std(correction=0), values.min(), values.max()])
        expected = torch.tensor([found[key] for key in ("mean", "std", "min", "max")], dtype=torch.float64)
        torch.testing.assert_close(expected, numbers)
    layers = [name for name in tensors if name.endswith("attention.q.weight")]
    assert layers == [f"blocks.{i}.attention.q.weight" for i in range(12)]
    text = shown(capsys, "--path", tmp_path / "run")
    assert "step 11, val_loss 1.25" in text
    assert "residual_out" in text


def test_a_type_numpy_does_not_have_is_shown_without_numbers(tmp_path, capsys):
    model = GPT.create(make_spec()).to(torch.bfloat16)
    save_checkpoint(tmp_path / "last", model, tokenizer={}, meta={})
    (first, *_) = json.loads(shown(capsys, "--path", tmp_path / "last", "--json"))["tensors"]
    assert (first["dtype"], first["mean"]) == ("BF16", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--directory", "no_such_folder"], "no such folder"),
        (["--directory", "."], "no run (run.json) in it"),
        (["--path", "no_such_run"], "no such folder"),
        (["--path", "."], "no checkpoint here"),
        (["--sort", "lost"], "sort: expected one of loss, name, step, params, time, got 'lost'"),
        (["--limit", "0"], "limit: 0 is out of range, expected >= 1"),
    ],
)
def test_a_mistake_is_said_and_the_exit_code_is_2(tmp_path, arguments, message):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_nothing_here_waits_for_torch(out):
    script = (
        f"import sys, runpy; sys.argv = ['x', '--directory', {str(out)!r}]; runpy.run_path({str(SCRIPT)!r}, run_name="
    )
    script += "'__main__'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0
