"""Going on with a run folder that was moved, or that somebody else made: what is in it is checked, never trusted."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path

import pytest
import torch

from minigpt import config, schema
from minigpt.config import TrainConfig, load_yaml
from minigpt.errors import UserError
from minigpt.model.checkpoint import load_checkpoint
from minigpt.training.fit import fit
from minigpt.training.record import RunRecord, read_run
from minigpt.training.resume import RESUMABLE, resumed
from minigpt.training.state import STATE
from tests.model.checkpoints import rewrite
from tests.training.test_fit import weights
from tests.warm import python

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def record(configure) -> RunRecord:
    return fit(configure(model={"dropout": 0.2}))


def composed(configure, folder: Path, *overrides: str) -> TrainConfig:
    """What the command line makes of ``resume=folder`` and further overrides."""
    content = schema.plain(configure()) | {"resume": str(folder)}
    for override in overrides:
        key, value = override.split("=")
        group, _, option = key.partition(".")
        if option:
            content[group] |= {option: int(value) if value.isdigit() else value}
        else:
            content[group] = value
    return config.check(resumed(content, [f"resume={folder}", *overrides]), TrainConfig)


def test_a_run_goes_on_where_its_folder_and_its_data_have_been_moved_to(configure, record, data_folder, tmp_path):
    whole = fit(configure(name="whole", model={"dropout": 0.2}, training={"max_steps": 30}))
    shutil.copytree(data_folder, tmp_path / "other data")
    (tmp_path / "other data" / "words").rename(tmp_path / "other data" / "renamed")
    moved = Path(shutil.move(record.folder, tmp_path / "elsewhere"))
    change = [f"data.folder={tmp_path / 'other data'}", "data.name=renamed", "device=cpu", "training.max_steps=30"]
    longer = fit(composed(configure, moved, *change))
    assert (longer.status, longer.steps, longer.dataset) == ("completed", 30, "renamed")
    assert longer.dataset_hash == whole.dataset_hash
    assert load_yaml(moved / "config.yaml")["data"]["name"] == "renamed"


def test_other_data_in_the_place_that_is_given_is_refused(configure, record, data_folder, tmp_path):
    shutil.copytree(data_folder / "words", tmp_path / "data" / "words")
    from minigpt.data.preparation import PrepareConfig, prepare

    (tmp_path / "text").write_text("abc€ é " * 2000)
    keys = {"source": str(tmp_path / "text"), "name": "words", "folder": str(tmp_path / "data"), "overwrite": True}
    prepare(PrepareConfig(**keys), say=lambda line: None)
    before = weights(record.folder)
    with pytest.raises(UserError, match=r"(trained on other data|vocab_size)"):
        fit(composed(configure, record.folder, f"data.folder={tmp_path / 'data'}", "training.max_steps=30"))
    assert weights(record.folder) == before
    assert read_run(record.folder) == record


@pytest.mark.parametrize(
    "override",
    ["loggerfoo=1", "training.max_steps.x=1", "training.max_stepz=1", "softmax=relumax", "data=pydocs", "seed=1",
     "training=1", "logger.name.x=1", "data.val_tokens=5", "~training.patience=1"],
)  # fmt: skip
def test_what_would_make_it_another_run_is_refused(configure, record, override):
    content = schema.plain(configure()) | {"resume": str(record.folder)}
    with pytest.raises(UserError, match=r"this cannot change.*What may: training\.max_steps"):
        resumed(content, [f"resume={record.folder}", override])


def test_every_key_that_may_change_is_a_key(configure, record):
    content = schema.plain(configure()) | {"resume": str(record.folder)}
    for key in RESUMABLE:
        config.check(resumed(content, [f"resume={record.folder}", f"{key}=x"]), TrainConfig)


@pytest.mark.parametrize("given", [3.5, True, "", ["a"], {"a": 1}])
def test_a_resume_that_is_no_folder_is_refused(configure, given):
    with pytest.raises(UserError, match="resume: expected a run's folder"):
        resumed(schema.plain(configure()) | {"resume": given}, [])


def test_a_number_may_be_a_folder(configure):
    with pytest.raises(UserError, match="no run in '20261125'"):
        resumed(schema.plain(configure()) | {"resume": 20261125}, [])


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)
ATTACKS = {
    "anchor bomb": (BOMB, "anchors are not followed"),
    "deep": ("[" * 50_000, "cannot be read"),
    "deep in blocks": ("x: " + "{a: " * 5000 + "1" + "}" * 5000, "cannot be read"),
    "huge": ("x: " + "a" * (2 << 20), "larger than"),
    "latin-1": (b"name: caf\xe9", "not UTF-8"),
    "empty": ("", "not a configuration"),
    "a list": ("- 1", "not a configuration"),
    "a tag": ("a: !!python/object/apply:os.system ['touch hacked']", "cannot be read"),
    "torn": ("data: {name: pydo", "cannot be read"),
    "a long number": ("data: " + "9" * 5000, "cannot be read"),
    "a list as key": ("? [a, b]\n: 1", "cannot be read"),
    "twice": ("data: 1\ndata: 2", "cannot be read"),
}


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_configuration_that_is_an_attack_is_refused_in_no_time(configure, record, kind):
    content, message = ATTACKS[kind]
    (record.folder / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    with pytest.raises(UserError, match=message):
        composed(configure, record.folder)
    assert time.process_time() - started < 3
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plugins": 5}, "plugins: expected a list of module names, got '5'"),
        ({"plugins": [{"a": 1}]}, "plugins: expected a list"),
        ({"training": None}, "training: is missing, and it is not filled in"),
        ({"model": {}}, "model: is missing"),
        ({"data": 7}, "data: is missing"),
        ({"name": "${oc.env:HOME}"}, r"name: '\$\{oc.env:HOME\}' would be filled in from outside"),
        ({"blocks": {"a": {"norm": "x${oc.env:HOME}"}}}, r"blocks\.a\.norm: 'x\$"),
        ({"logger": {"name": "wandb", "project": "${oc.env:HOME}"}}, r"logger\.project"),
    ],
)
def test_a_configuration_that_reaches_out_or_lacks_something_is_refused(configure, record, change, message):
    stored = load_yaml(record.folder / "config.yaml") | change
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in stored.items() if value is not None)
    (record.folder / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        composed(configure, record.folder)


def test_an_environment_variable_does_not_leave_by_a_strangers_configuration(record):
    file = record.folder / "config.yaml"
    file.write_text(file.read_text().replace("project: minigpt", "project: ${oc.env:SECRET}"))
    words = (f"resume={record.folder}", "training.max_steps=21")
    ended = python(ROOT / "train.py", *words, env={"SECRET": "hunter2"})
    assert ended.returncode == 2
    assert "filled in from outside" in ended.stderr
    assert "hunter2" not in "".join(p.read_text(errors="replace") for p in record.folder.rglob("*") if p.is_file())


def set_in(value, path, to):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = to


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("standing", "step"), "ten"),
        (("standing", "step"), -5),
        (("standing", "best_val_loss"), None),
        (("standing", "window"), 3),
        (("standing",), 3),
        (("optimizer",), {}),
        (("optimizer",), [7]),
        (("optimizer", 0, "state"), 3),
        (("optimizer", 0, "state", 0, "exp_avg"), torch.zeros(3, 3)),
        (("optimizer", 0, "param_groups"), []),
        (("optimizer", 0, "param_groups", 0, "betas"), 3),
        (("optimizer", 0, "param_groups", 0, "eps"), "small"),
        (("standing", "seconds"), math.nan),
        (("standing", "window_seconds"), -1.0),
        (("random", "python"), 3),
        (("random", "torch"), torch.zeros(3)),
        (("random",), {}),
        (("scaler",), 3),
        (("hooks",), {"MetricsFile": "many"}),
        (("hooks",), 3),
        (("dataset_hash",), 3),
    ],
)
def test_a_state_of_other_types_or_shapes_is_refused_and_leaves_the_run_as_it_was(record, path, to):
    last = record.folder / "checkpoint" / "last"
    state = torch.load(last / STATE, weights_only=True)
    set_in(state, path, to)
    rewrite(last, STATE, lambda file: torch.save(state, file))
    content = load_yaml(record.folder / "config.yaml") | {"resume": str(record.folder)}
    content["training"]["max_steps"] = 30
    with pytest.raises(UserError, match=STATE):
        fit(config.check(content, TrainConfig))
    assert read_run(record.folder) == record


@pytest.mark.parametrize("tokenizer", [{"kind": "byte"}, {"kind": "char", "characters": "abc"}, {}, [1], {"kind": 7}])
def test_another_tokenizer_in_the_checkpoint_is_refused(record, tokenizer):
    last = record.folder / "checkpoint" / "last"
    rewrite(last, "tokenizer.json", lambda file: file.write_text(json.dumps(tokenizer)))
    content = load_yaml(record.folder / "config.yaml") | {"resume": str(record.folder)}
    content["training"]["max_steps"] = 30
    with pytest.raises(UserError, match="tokenizer"):
        fit(config.check(content, TrainConfig))
    assert read_run(record.folder) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec | {"d_model": 10**400}, "a number of 401 digits"),
        (lambda spec: spec | {"d_model": 10**20}, r"model\.json"),
        (lambda spec: spec | {"blocks": spec["blocks"] * 10_000}, "n_layer is 2, but 20000 blocks"),
        (lambda spec: spec | {"n_layer": 10**9}, "blocks are described"),
        (lambda spec: spec | {"plugins": [{"a": 1}, 5], "colour": 1}, "unknown key 'colour'"),
        (lambda spec: spec | {"plugins": 5, "colour": 1}, "unknown key 'colour'"),
        (lambda spec: spec | {"d_model": "wide"}, "d_model"),
    ],
)
def test_a_model_of_no_size_a_machine_holds_is_refused_at_once(record, change, message):
    last = record.folder / "checkpoint" / "last"
    spec = json.loads((last / "model.json").read_text())
    rewrite(last, "model.json", lambda file: file.write_text(json.dumps(change(spec))))
    started = time.process_time()
    with pytest.raises(UserError, match=message):
        load_checkpoint(last)
    assert time.process_time() - started < 2
