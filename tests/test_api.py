"""minigpt in Python means what the command line means: same words, same identity, same refusals."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import minigpt
from minigpt.cli.from_python import spelled
from minigpt.training.record import read_run
from tests.warm import python

SMALL = {"d_model": 32, "n_head": 4, "n_layer": 1, "block_size": 16}
BRIEF = {"batch_size": 4, "max_steps": 4, "eval_interval": 4, "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a dataset, two runs and a sweep of four trials, all made from Python."""
    folder = tmp_path_factory.mktemp("api")
    draw = random.Random(0)
    (folder / "text.txt").write_text(" ".join(draw.choice(["to", "be", "or", "not"]) for _ in range(4000)))
    assert minigpt.prepare(source=str(folder / "text.txt"), name="hamlet", folder=str(folder / "data")).is_dir()
    return folder


@pytest.fixture(scope="module")
def keys(folder) -> dict:
    data = {"name": "hamlet", "folder": str(folder / "data"), "val_tokens": 500}
    return {"model": SMALL, "training": BRIEF, "data": data, "out": str(folder / "out"), "device": "cpu"}


@pytest.fixture(scope="module")
def record(keys):
    return minigpt.train(attention={"name": "gqa", "n_kv_head": 2}, name="first", **keys)


@pytest.fixture(scope="module")
def trials(keys):
    return minigpt.sweep(softmax=["softmax", "relumax"], seed=[0, 1], study="both", **keys)


def test_a_run_is_the_one_of_the_same_words(record, keys, folder):
    words = ["attention=gqa", "attention.n_kv_head=2", *(w for w in spelled(keys) if not w.startswith("out="))]
    root = Path(minigpt.__file__).parents[1]
    assert python(root / "train.py", *words, "name=typed", f"out={folder / 'typed'}", cwd=folder).returncode == 0
    typed = read_run(folder / "typed" / "typed")
    assert record.status == "completed"
    assert (record.config_hash, record.overrides) == (typed.config_hash, typed.overrides)
    assert record.val_loss == typed.val_loss


def test_a_trained_model_goes_on_with_text(record):
    model = minigpt.load(record)
    one = model.generate("to be", 8, seed=3, top_k=3)
    assert len(one) == 8
    assert set(one) <= set("tobernt ")
    assert model.generate("to be", 8, seed=3, top_k=3) == one
    assert model.generate(["or", "to be"], 8, seed=3, top_k=3)[1] == one
    assert model.generate(["to be", "or"], 8, temperature=0) == [
        model.generate(each, 8, temperature=0) for each in ("to be", "or")
    ]
    assert model.generate("to be", 8, seed=3, top_k=3, stop=[one[2:4]]) == one[: one.index(one[2:4])]
    assert minigpt.load(record.folder / "checkpoint" / "last").meta["step"] == 4
    assert model(torch.tensor([model.encode("to")])).shape == (1, 2, model.gpt.spec.vocab_size)


def test_a_sweep_tries_every_combination_and_then_nothing_more(trials, keys, capfd):
    assert sorted((row["softmax"], row["seed"]) for row in trials) == [
        ("relumax", 0),
        ("relumax", 1),
        ("softmax", 0),
        ("softmax", 1),
    ]
    again = minigpt.sweep(softmax=["softmax", "relumax"], seed=[0, 1], study="both", **keys)
    assert again == trials
    assert "0 to run" in capfd.readouterr().out


def test_records_are_a_table_for_pandas(trials, record, folder):
    pandas = pytest.importorskip("pandas", reason="the table is for pandas, which is not installed")
    table = pandas.DataFrame(minigpt.runs(folder / "out"))
    assert len(table) == 5
    assert table.val_loss.dtype == "float64"
    means = table.groupby("softmax").val_loss.mean()
    each = [row["val_loss"] for row in trials if row["softmax"] == "relumax"]
    assert means["relumax"] == pytest.approx(sum(each) / 2)


def test_a_model_is_built_and_priced_without_training():
    built = minigpt.build(attention="mqa", model=SMALL | {"vocab_size": 50})
    assert built.parameters == sum(p.numel() for p in built.gpt.parameters())
    of_model = minigpt.price(built, "edge_16nm", context=16)
    of_config = minigpt.price(minigpt.configure(attention="mqa", model=SMALL | {"vocab_size": 50}), "edge_16nm")
    assert of_model.energy_per_token_mj == of_config.energy_per_token_mj > 0
    assert "ComponentPpa" not in repr(of_model)  # totals, on one screen
    dearer = minigpt.price(minigpt.configure(model=SMALL | {"vocab_size": 50}), "edge_16nm")
    assert dearer.energy.dram_cache_mj > of_config.energy.dram_cache_mj


def test_the_price_is_the_one_of_the_report(record, folder, keys):
    from minigpt.hardware.spec import load
    from minigpt.report.ppa import PpaReportConfig, write_report

    found, _ = write_report(
        PpaReportConfig(runs=str(record.folder), hardware=load("edge_16nm"), out=str(folder / "ppa"))
    )
    price = minigpt.price(record.folder, "edge_16nm")
    assert found.rows[0].energy_mj == price.energy_per_token_mj
    assert found.rows[0].area_mm2 == price.area_mm2


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: minigpt.configure(atention="gqa"), "atention: unknown key 'atention'. Did you mean 'attention'?"),
        (lambda: minigpt.configure(attention="gqqa"), "attention: there is no attention named 'gqqa'"),
        (lambda: minigpt.configure(attention={"name": "causal", "windw": 3}), "'windw'. Did you mean 'window'?"),
        (lambda: minigpt.configure(softmax=["softmax", "relumax"]), "softmax: expected one name"),
        (lambda: minigpt.configure(seed=object()), "is no value of a configuration"),
        (lambda: minigpt.configure(model={3: 4}), "model: expected names of options"),
        (lambda: minigpt.configure("-m"), "expected words of the command line"),
        (lambda: minigpt.configure(None), "expected words of the command line"),
        (lambda: minigpt.configure("seed=1", seed=2), "seed: given twice"),
        (lambda: minigpt.sweep(softmax=[]), "softmax: an empty list"),
        (lambda: minigpt.sweep(seed=[0], name="x"), "name: trials are named and resumed by their study"),
        (lambda: minigpt.load("nowhere"), "nowhere: no such folder"),
        (lambda: minigpt.evaluate("nowhere"), "nowhere: no such folder"),
        (lambda: minigpt.runs("nowhere"), "nowhere: no such folder"),
        (lambda: minigpt.price("nowhere"), "nowhere: no such folder"),
        (lambda: minigpt.prepare(sorce="x"), "'sorce'. Did you mean 'source'?"),
        (lambda: minigpt.build(model={"vocab_size": 9}).generate("a"), "has no tokenizer"),
    ],
)
def test_a_mistake_is_the_command_lines_sentence(call, sentence):
    with pytest.raises(minigpt.UserError) as refused:
        call()
    assert sentence in str(refused.value)


def test_a_mistake_when_choosing_tokens(record):
    model = minigpt.load(record)
    with pytest.raises(minigpt.UserError, match=r"'temp'\. Did you mean 'temperature'"):
        model.generate("to", 3, temp=1)
    with pytest.raises(minigpt.UserError, match="max_new_tokens: 0 is out of range"):
        model.generate("to", 0)
    with pytest.raises(minigpt.UserError, match="has no token to begin a text with"):
        model.generate("", 3)
    for prompt in (3, None, ["to", 3], [b"to"]):
        with pytest.raises(minigpt.UserError, match="prompt: expected text"):
            model.generate(prompt, 3)


def test_a_mapping_with_names_of_the_users_own_is_one_value():
    run = minigpt.configure(blocks={"local": {"attention": {"window": 4}}}, pattern=["local", "default"])
    assert [block.label for block in run.resolved_blocks()[:2]] == ["local", "default"]


def test_importing_is_cheap_and_lists_what_there_is():
    asked = "import sys, minigpt; assert not {'torch', 'hydra', 'numpy'} & set(sys.modules); print(*dir(minigpt))"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.split() == minigpt.__all__
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        minigpt.trian  # noqa: B018
