"""Starting from another run's weights: its model without repeating it, other data, and what does not fit by name."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minigpt import config
from minigpt.config import TrainConfig, load_yaml
from minigpt.data.dataset import open_dataset
from minigpt.device import Precision
from minigpt.errors import UserError
from minigpt.model.checkpoint import load_checkpoint, save_checkpoint
from minigpt.training.evaluate import validate
from minigpt.training.fit import fit
from minigpt.training.init_from import inherited
from minigpt.training.matching import outdated
from minigpt.training.record import read_run
from tests.training.conftest import WORDS
from tests.training.test_fit import same_metrics, weights
from tests.training.test_resume import die_at, stored
from tests.warm import python

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def parent(configure):
    """A run that is not at the defaults."""
    return fit(configure(name="parent", norm={"name": "layernorm"}, attention={"name": "causal", "n_kv_head": 2}))


@pytest.fixture
def starting(configure, parent):
    """starting(*typed, **changes) -> a checked run that starts from ``parent``."""

    def starting(*typed: str, **changes) -> TrainConfig:
        plain = config.schema.plain(configure(**{"model": {"d_model": 128, "n_layer": 4, "block_size": 128}} | changes))
        content = plain | {"init_from": str(parent.folder)}
        return config.check(inherited(content, typed), TrainConfig)

    return starting


def test_the_run_has_the_parents_model_and_its_weights(starting, parent):
    run = starting(optimizer={"lr": 1e-6}, training={"max_steps": 1})
    assert (run.model.d_model, run.model.n_layer, run.model.block_size) == (32, 2, 16)
    record = fit(run)
    assert record.val_loss == pytest.approx(parent.val_loss, abs=1e-3)
    best = load_file(parent.folder / "checkpoint" / "best" / "model.safetensors")
    now = load_file(record.folder / "checkpoint" / "last" / "model.safetensors")
    for name, tensor in best.items():
        torch.testing.assert_close(now[name], tensor, atol=1e-4, rtol=0)


def test_the_record_names_its_parent_and_the_parents_content(starting, parent, configure):
    record = fit(starting())
    assert record.parent == str(parent.folder / "checkpoint" / "best")
    assert len(record.parent_hash) == 64
    assert read_run(record.folder) == record
    assert fit(starting(name="again")).parent_hash == record.parent_hash
    other = fit(configure(name="other", init_from=str(record.folder), **model_of(record.folder)))
    assert other.parent_hash != record.parent_hash
    assert parent.parent is None


def test_a_record_is_no_result_any_more_when_its_parent_has_other_weights(starting, parent):
    record = fit(starting())
    assert outdated(record, {}) == ""
    load = load_checkpoint(parent.folder / "checkpoint" / "best")
    with torch.no_grad():
        next(load.model.parameters()).add_(0.1)
    save_checkpoint(load.folder, load.model, tokenizer=load.tokenizer, meta={})
    assert outdated(record, {}) == f"the weights of {load.folder}, which it started from, are others now"
    shutil.rmtree(parent.folder)
    assert outdated(record, {}) == ""  # nothing says that it would be another


def model_of(folder: Path) -> dict:
    content = load_yaml(folder / "config.yaml")
    return {key: content[key] for key in ("model", "norm", "attention")}


def test_a_checkpoint_is_a_parent_as_a_run_is(starting, parent):
    run = starting()
    last = config.check(config.schema.plain(run) | {"init_from": f"{parent.folder}/checkpoint/last"}, TrainConfig)
    assert fit(last).parent == str(parent.folder / "checkpoint" / "last")


def test_another_text_in_the_same_tokens_can_be_read(starting, parent, data_folder, tmp_path):
    """As `python train.py init_from=out/a data.name=mine` does."""
    from minigpt.data.preparation import PrepareConfig, prepare

    words = random.Random(2)
    text = " ".join(words.choice(WORDS) for _ in range(4000))
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
    keys = {"source": str(tmp_path / "mine.txt"), "name": "mine", "folder": str(tmp_path / "data")}
    prepare(PrepareConfig(**keys), say=lambda line: None)
    record = fit(starting(data={"name": "mine", "folder": str(tmp_path / "data")}))
    assert record.dataset_hash != parent.dataset_hash
    assert record.val_loss < 3.4


def test_other_tokens_are_refused_and_the_parents_can_be_had(starting, parent, tmp_path):
    from minigpt.data.preparation import PrepareConfig, prepare

    (tmp_path / "mine.txt").write_text("the fox jumps over a lazy dog " * 300)
    keys = {"source": str(tmp_path / "mine.txt"), "name": "mine", "folder": str(tmp_path / "data")}
    prepare(PrepareConfig(**keys), say=lambda line: None)
    run = starting(data={"name": "mine", "folder": str(tmp_path / "data")})
    refused(run, r"init_from: .* its tokenizer \(char\) .* tokenizer_of=.*parent")
    prepare(PrepareConfig(**keys, tokenizer_of=str(parent.folder), overwrite=True), say=lambda line: None)
    assert fit(run).status == "completed"


def refused(run: TrainConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        fit(run)
    assert str(error.value).count("\n") <= 1
    assert not (Path(run.out) / str(run.name)).exists()


@pytest.mark.parametrize(
    ("typed", "changes", "message"),
    [
        (
            "model.d_model=64",
            {"model": {"d_model": 64}},
            r"init_from: model\.d_model: checkpoint has 32, this model 64",
        ),
        ("norm=rmsnorm", {}, r"init_from: norm\.name: checkpoint has layernorm, this model rmsnorm"),
        ("norm.eps=0.1", {"norm": {"name": "rmsnorm", "eps": 0.1}}, r"init_from: norm\.eps: checkpoint has 1e-05"),
        ("", {"softmax": {"name": "consmax"}}, r"init_from: softmax\.name: checkpoint has softmax, this model consmax"),
        ("attention.n_kv_head=null", {}, r"init_from: attention\.n_kv_head: checkpoint has 2, this model None"),
    ],
)
def test_what_was_chosen_and_does_not_fit_is_refused_by_name(starting, typed, changes, message):
    sizes = {"model": {"d_model": 128, "n_layer": 4, "block_size": 128}}
    refused(starting(typed, **sizes | changes), message)


def test_what_was_chosen_and_fits_is_taken(starting):
    run = starting("model.dropout=0.0", "model.block_size=8", model={"block_size": 8, "dropout": 0.0})
    assert (run.model.block_size, run.model.d_model) == (8, 32)  # rotary positions have no table to outgrow
    assert fit(run).status == "completed"


def test_a_longer_context_than_the_position_table_is_refused(configure):
    changes = {"position": {"name": "learned"}}
    parent = fit(configure(name="parent", training={"max_steps": 1}, **changes))
    refused(
        configure(init_from=str(parent.folder), model={"block_size": 32}, **changes),
        r"init_from: model\.block_size: checkpoint has 16, this model 32",
    )


def test_layers_that_differ_are_taken_over_too(configure):
    blocks = {"blocks": {"local": {"attention": {"window": 4}}}, "pattern": ["local", "default"]}
    parent = fit(configure(name="parent", training={"max_steps": 2}, **blocks))
    content = config.schema.plain(configure()) | {"init_from": str(parent.folder)}
    run = config.check(inherited(content, []), TrainConfig)
    assert [str(block.spec("attention")) for block in run.resolved_blocks()] == ["causal(window=4)", "causal"]
    assert fit(run).status == "completed"


def test_such_a_run_goes_on_exactly_even_when_its_parent_is_gone(starting, parent):
    changes = {"model": {"dropout": 0.2}}
    whole = fit(starting(name="whole", **changes))
    folder = die_at(starting(training={"checkpoint_interval": 7}, **changes), step=16)
    parent.folder.rename(parent.folder.with_name("elsewhere"))
    record = fit(stored(folder))
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)
    assert (record.parent, record.parent_hash) == (whole.parent, whole.parent_hash)


def test_such_a_run_killed_before_its_first_checkpoint_starts_from_the_parent_again(starting):
    whole = fit(starting(name="whole"))
    folder = die_at(starting(), step=8)
    fit(stored(folder))
    assert weights(folder) == weights(whole.folder)


@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_a_parent_that_cannot_be_read_is_refused(starting, parent, damage):
    run = starting()
    for name in ("best", "last"):
        file = parent.folder / "checkpoint" / name / "model.safetensors"
        if damage == "torn":
            file.write_bytes(file.read_bytes()[:100])
        else:
            (file.parent / "meta.json").unlink()
    refused(run, "init_from: .*(is torn|no checkpoint here)")


SEAMS = ["tests.seams"]
LORA = {"plugins": SEAMS, "transforms": [{"name": "tiny_lora"}]}


def test_a_low_rank_adapter_on_the_parent_trains_alone_and_goes_on_exactly(starting, parent):
    whole = fit(starting(name="whole", **LORA))
    assert whole.trainable_parameters == 2 * (2 * (32 + 32) + 2 * (32 + 16))  # q and v of two layers, at rank 2
    assert whole.parameters == parent.parameters + whole.trainable_parameters
    best = load_file(parent.folder / "checkpoint" / "best" / "model.safetensors")
    now = load_file(whole.folder / "checkpoint" / "last" / "model.safetensors")
    for name, tensor in best.items():
        owner, _, leaf = name.rpartition(".")
        assert torch.equal(now[name if name in now else f"{owner}.base.{leaf}"], tensor), name
    folder = die_at(starting(training={"checkpoint_interval": 7}, **LORA), step=16)
    fit(stored(folder))
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)


def test_a_child_of_an_adapted_run_has_its_adapter(starting, configure):
    adapted = fit(starting(name="adapted", **LORA))
    content = config.schema.plain(configure(name="child", plugins=SEAMS)) | {"init_from": str(adapted.folder)}
    child = config.check(inherited(content, []), TrainConfig)
    assert [str(each) for each in child.transforms] == ["tiny_lora"]
    assert fit(child).trainable_parameters == adapted.trainable_parameters
    refused(
        config.check(config.schema.plain(child) | {"name": "bare", "transforms": []}, TrainConfig),
        r"init_from: transforms: .* has \[tiny_lora\], this model \[\]",
    )


def test_weights_in_int8_start_from_the_parent_and_never_from_nothing(starting, parent, configure):
    int8 = {"plugins": SEAMS, "transforms": [{"name": "tiny_int8"}]}
    record = fit(starting(optimizer={"lr": 1e-6}, training={"max_steps": 1}, **int8))
    assert record.val_loss == pytest.approx(parent.best_val_loss, abs=0.05)
    refused(configure(name="nothing", **int8), "transforms: tiny_int8 rewrites weights that are there already")


@pytest.mark.parametrize(
    "changes",
    [
        {"share": {"block": "mirror"}},
        {"sites": {"linear": {"down": {"name": "ternary"}}}},
        {"plugins": SEAMS, "head": {"name": "two_tokens"}},
        {"plugins": SEAMS, "attention": {"name": "value_residual"}, "residual": {"name": "two_streams"}},
    ],
    ids=str,
)
def test_whatever_a_model_is_made_of_is_taken_over(configure, changes):
    parent = fit(configure(name="parent", training={"max_steps": 1}, **changes))
    plugins = changes.get("plugins", [])
    content = config.schema.plain(configure(name="child", plugins=plugins)) | {"init_from": str(parent.folder)}
    child = fit(config.check(inherited(content, []), TrainConfig))
    assert child.parameters == parent.parameters
    mine, theirs = ((r.folder / "model.json").read_text() for r in (child, parent))
    assert json.loads(mine) == json.loads(theirs)


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    return python(ROOT / "train.py", *arguments, cwd=folder, env={"OMP_NUM_THREADS": "1"})


def test_the_command_line_needs_no_word_about_the_parents_model(parent, data_folder, tmp_path):
    data = (f"data.folder={data_folder}", "data.name=words", "data.val_tokens=500", "device=cpu")
    short = ("training.max_steps=2", "training.batch_size=4", "optimizer.lr=1e-4")
    done = command(f"init_from={parent.folder}", "name=child", *data, *short, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    child = read_run(tmp_path / "out" / "child")
    assert child.parameters == parent.parameters
    model = load_checkpoint(child.folder).spec
    assert (model.d_model, model.default.spec("norm").name) == (32, "layernorm")
    assert model.default.spec("attention").options.n_kv_head == 2
    dataset = open_dataset("words", str(data_folder), block_size=16, val_tokens=500)
    best = load_checkpoint(parent.folder).model
    before = validate(best, dataset, 4, 16, Precision("fp32", torch.device("cpu"))).loss
    assert child.val_loss < before + 0.05
    for arguments, message in (
        ((f"resume={child.folder}", f"init_from={parent.folder}"), "init_from: a resumed run keeps"),
        ((f"init_from={parent.folder}", "model=tiny"), "init_from: the model is that of"),
        (("init_from=out/nothing",), "init_from: .*out/nothing"),
        ((f"init_from={parent.folder}", "softmax=softmax", "norm=rmsnorm", *data), r"norm\.name: checkpoint has"),
    ):
        refusal = command(*arguments, folder=tmp_path)
        assert refusal.returncode == 2
        assert re.search(message, refusal.stderr), refusal.stderr
        assert "Traceback" not in refusal.stderr


def test_a_sweep_starts_every_trial_from_the_parent(parent, data_folder, tmp_path):
    data = (f"data.folder={data_folder}", "data.name=words", "data.val_tokens=500", "device=cpu")
    grid = ("-m", "optimizer.lr=1e-4,1e-5", "study=tuned", "training.max_steps=2", "training.batch_size=4")
    done = command(f"init_from={parent.folder}", *data, *grid, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(file.read_text()) for file in (tmp_path / "out" / "tuned").rglob("run.json")]
    assert {record["status"] for record in records} == {"completed"}
    assert {record["parameters"] for record in records} == {parent.parameters}
    assert len({record["parent_hash"] for record in records}) == 1
    assert len(records) == 2
    refusal = command(f"init_from={parent.folder}", *data, "-m", "model.n_layer=2,3", "study=b", folder=tmp_path)
    assert refusal.returncode == 2
    assert "point model.n_layer=3: init_from: model.n_layer: checkpoint has 2, this model 3" in refusal.stderr
    assert not (tmp_path / "out" / "b").exists()
