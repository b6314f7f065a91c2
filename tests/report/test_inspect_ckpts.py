"""The table of runs and the view of one checkpoint: right numbers, in order, without torch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt import files
from minigpt.cli.inspect import main
from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint
from minigpt.testing import make_spec
from minigpt.training.record import RunRecord
from tests.report.fake_runs import make_run
from tests.warm import python

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


def refused(capsys, *arguments: object) -> str:
    """What is said on stderr by a command that ends with exit code 2 and says nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["inspect_ckpts.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    return printed.err


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


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_the_table_tells_what_each_run_was_and_reached(out, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    text = shown(capsys, "--directory", out, "--sort", "loss")
    found = rows(text)
    assert found["sweep/a"][:5] == ["sweep/a", "completed", "1.5000", "-", "-"]
    assert found["b"][:8] == ["b", "completed", "2.5000", "1.3000", "2.2500", "300", "400", "1,000"]
    assert found["c"][:3] == ["c", "diverged", "-"]
    assert "    loss is nan" in text.splitlines()
    assert "1.235 M" in text
    assert found["d"][:3] == ["d", "running", "-"]
    assert f"4 runs in {out}" in text.splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 220])
def test_a_run_is_one_line_at_every_width(tmp_path, capsys, monkeypatch, width):
    for i in range(3):
        name = f"a_sweep_of_many_things/softmax-consmax-optimizer.lr0.001-seed{i}-3f9a0c"
        said = {"optimizer.lr": 1e-3 * (i + 1), "softmax": "consmax", "model.n_layer": 4 + i, "seed": i}
        record(tmp_path / name, val_loss=2.0 + i, steps=400, parameters=10**6, overrides=said, bits_per_byte=2.0)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown(capsys, "--directory", tmp_path).splitlines()
    assert len([line for line in lines if line.startswith("a_sweep")]) == 3
    assert len(lines) <= 1 + 3 + 2
    table = lines[:4]
    assert all(len(line) <= width for line in table)
    assert all(f"{2.0 + i:.4f}" in line for i, line in enumerate(table[1:]))
    if width >= 80:
        assert all(f"lr={1e-3 * (i + 1):.6g}" in line for i, line in enumerate(table[1:]))


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("val_loss<2", "a"),
        ("val_loss<=2.5", "ab"),
        ("status=completed,steps>100", "b"),
        ("status!=completed", "dc"),
        ("val_loss=none", "dc"),
        ("name~sweep/*", "a"),
        ("norm=dyt and loss<9", "a"),
        ("norm=dyt loss<9 params==2000", "a"),
        ("status='completed'", "ab"),
        ("kind=nanogpt", ""),
        ("reason='loss is nan'", "c"),
    ],
)
def test_conditions_keep_what_meets_them_all(out, capsys, where, kept):
    assert sorted(names(capsys, "--directory", out, "--where", where)) == sorted(kept)


@pytest.mark.parametrize("by", ["tokens_per_second", "best_step", "status", "norm", "seed", "kind", "steps"])
def test_any_column_sorts(out, capsys, by):
    there, back = (names(capsys, "--directory", out, "--sort", by, *r) for r in ([], ["--reverse"]))
    assert sorted(there) == sorted(back) == list("abcd")


def test_csv_has_a_column_for_each_figure_and_each_key_that_differs_and_no_formula(out, capsys):
    record(out / "=cmd()", val_loss=3.0, overrides={"norm": "=1+1"}, scores={"words.acc": 0.5}, reason="@x")
    table = list(csv.DictReader(io.StringIO(shown(capsys, "--directory", out, "--csv"))))
    found = {row["name"]: row for row in table}
    assert found["sweep/a"]["norm"] == "dyt"
    assert found["b"]["val_loss"] == "2.5"
    assert found["c"]["val_loss"] == ""
    row = found["'=cmd()"]
    assert (row["norm"], row["reason"], row["words.acc"]) == ("'=1+1", "'@x", "0.5")


def test_a_first_word_is_the_folder(out, capsys, monkeypatch):
    monkeypatch.chdir(out.parent)
    assert names(capsys, "--limit", "1") == ["a"]
    show("out/sweep", "--csv")
    assert capsys.readouterr().out.splitlines()[1].startswith("a,run,completed,,1.5,")


@pytest.mark.parametrize("word", ["out", "./out", "../{parent}/out", "{out}", "2026", "out (1)"])
def test_a_first_word_is_any_path(out, capsys, monkeypatch, word):
    monkeypatch.chdir(out.parent)
    for name in ("2026", "out (1)"):
        Path(name).symlink_to(out)
    show(word.format(out=out, parent=out.parent.name), "--csv", "--limit", "1")
    assert capsys.readouterr().out.splitlines()[1].startswith("sweep/a,run,")


def test_chosen_columns_are_shown_alone(out, capsys):
    text = shown(capsys, "--directory", out, "--columns", "name,params,norm", "--csv")
    assert text.splitlines()[:2] == ["name,parameters,norm", "sweep/a,2000,dyt"]
    assert shown(capsys, "--directory", out, "--columns", "norm").splitlines()[:2] == ["norm", " dyt"]


def test_names_that_would_act_are_spelt_out(tmp_path, capsys):
    record(tmp_path / "\x1b[31mred\x1b", status="failed", reason="a\nb\x1b]0;title", overrides={"norm": "\x1b[2J"})
    record(tmp_path / "other", val_loss=1.0, overrides={"norm": "b"})
    text = shown(capsys, "--directory", tmp_path)
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text


def test_a_torn_record_is_listed_and_the_others_are_shown(out, capsys):
    (out / "b" / "run.json").write_text('{"name": "b", ')
    found = json.loads(shown(capsys, "--directory", out, "--json"))
    assert [each["kind"] for each in found] == ["run", "run", "run", "unreadable"]
    assert found[-1]["name"] == "b"
    text = shown(capsys, "--directory", out)
    assert "3 runs, 1 unreadable" in text
    assert "  b: run.json: not JSON" in text


def test_what_is_running_shows_where_it_stands_and_whether_it_lives(tmp_path, capsys):
    record(tmp_path / "r", status="running")
    lines = [{"step": 10, "tokens": 640, "train_loss": 3.5}, {"step": 10, "val_loss": 3.25}]
    lines.append({"step": 20, "tokens": 1280})
    (tmp_path / "r" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3')
    (run,) = json.loads(shown(capsys, "--directory", tmp_path, "--json"))
    assert (run["step"], run["val_loss"], run["tokens_seen"]) == (20, 3.25, 1280)
    assert run["reason"].startswith("no process of this machine trains it. To go on: resume=")
    with files.Lock(tmp_path / "r" / ".lock", lambda holder: None):
        assert json.loads(shown(capsys, "--directory", tmp_path, "--json"))[0]["reason"] == ""


def test_a_machine_prices_every_model_and_one_without_its_parts_says_so(tmp_path, capsys):
    make_run(tmp_path / "a", val_loss=2.0)
    make_run(tmp_path / "b", val_loss=2.1, softmax="consmax")
    make_run(tmp_path / "c", val_loss=2.2)
    content = json.loads((tmp_path / "c" / "model.json").read_text())
    content["default"]["norm"] = {"name": "nobody_has_this"}
    (tmp_path / "c" / "model.json").write_text(json.dumps(content))
    a, b, c = json.loads(shown(capsys, "--directory", tmp_path, "--json", "hardware=edge_16nm"))
    assert a["energy_mj"] > b["energy_mj"] > 0
    assert a["area_mm2"] > b["area_mm2"] > 0
    assert "energy_mj" not in c
    assert "nobody_has_this" in c["reason"]


def test_a_reader_watches_until_ctrl_c(out):
    words = ["--directory", str(out), "--watch", "--interval", "0.1"]
    leader, follower = pty.openpty()
    child = subprocess.Popen([sys.executable, SCRIPT, *words], stdout=follower, stderr=follower, cwd=SCRIPT.parents[2])
    os.close(follower)
    seen = b""
    while seen.count(b"Ctrl-C ends") < 3:
        seen += os.read(leader, 1 << 16)
        if b"late" not in seen:
            (out / "late").mkdir(exist_ok=True)
            RunRecord(name="late", status="completed", config_hash="x", seed=0, folder=out / "late").write()
    child.send_signal(signal.SIGINT)
    while b"\x1b[?25h" not in seen:  # the cursor is back
        seen += os.read(leader, 1 << 16)
    assert child.wait(30) == 0
    assert b"late" in seen
    assert b"Traceback" not in seen


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


def test_a_type_numpy_does_not_have_is_shown_with_its_numbers(tmp_path, capsys):
    model = GPT.create(make_spec()).to(torch.bfloat16)
    save_checkpoint(tmp_path / "last", model, tokenizer={}, meta={})
    found = {each["name"]: each for each in json.loads(shown(capsys, "--path", tmp_path / "last", "--json"))["tensors"]}
    for name, parameter in model.named_parameters():
        assert found[name]["dtype"] == "BF16"
        assert found[name]["max"] == parameter.max().item()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--directory", "no_such_folder"], "no such folder"),
        (["--directory", "."], "no run (run.json) and no checkpoint in it"),
        (["--path", "no_such_run"], "no such folder"),
        (["--path", "."], "no checkpoint here"),
        (["--json", "--csv"], "csv: json is asked for, too"),
        (["--watch"], "watch: redraws a terminal, and the output is none"),
        (["--interval", "3"], "interval: is of watch"),
        (["--path", "x", "--where", "a=b"], "where: is of a listing"),
        (["--path", "x", "--columns", "name"], "columns: are of a listing"),
        (["--path", "x", "hardware=edge_16nm"], "hardware: is of a listing"),
        (["--columns", ","], "cannot be read as key=value. Lists are [a,b]"),
        (["--checkpoints", "first"], "checkpoints: expected one of best, last, all"),
        (["--limit", "0"], "limit: 0 is out of range, expected >= 1"),
    ],
)
def test_a_mistake_is_said_and_the_exit_code_is_2(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)


def test_a_mistake_on_a_real_command_line_is_said_without_a_traceback(tmp_path):
    done = python(SCRIPT, "--sort", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--sort: expected a value after it\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "lost"], "sort: there is no column 'lost'. Did you mean 'loss'?"),
        (["--columns", "nam"], "columns: there is no column 'nam'. Did you mean 'name'?"),
        (["--where", "loss"], "where: 'loss' is no condition. Expected such as val_loss<2.3"),
        (["--where", "loss<much"], "where: loss<much: expected a number after <"),
        (["--where", "name<3"], "is no number"),
        (["--where", "nrom=dyt"], "where: there is no column 'nrom'. Did you mean 'norm'?"),
    ],
)
def test_a_column_or_condition_that_is_none_is_said(out, capsys, arguments, message):
    assert message in refused(capsys, "--directory", out, *arguments)


def test_nothing_here_waits_for_torch(out):
    script = (
        f"import sys, runpy; sys.argv = ['x', '--directory', {str(out)!r}]; runpy.run_path({str(SCRIPT)!r}, run_name="
    )
    script += "'__main__'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0
