"""Every shipped YAML composes, checks and builds; what is checked is typed, frozen and hashes to an identity."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from minigpt import cli, config, presets, registry, schema
from minigpt.cli.words import in_hydras_words
from minigpt.config import TrainConfig, check, load_yaml
from minigpt.errors import UserError
from minigpt.model import GPT, resolve
from minigpt.training.resume import resumed

ROOT = Path(__file__).parent.parent
PRESETS = sorted(p.relative_to(ROOT / "conf") for p in (ROOT / "conf").glob("*/*.yaml"))
TRAIN_GROUPS = {*registry.axes(), "data", "model", "logger"} - set(registry.axes("data"))  # steps are of preparing
EXPLORATIONS = sorted(p.stem for p in (ROOT / "explorations").glob("*.yaml"))


def composed(*overrides: str) -> TrainConfig:
    cli.store_components()
    cli.store_explorations()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return check(compose("train", in_hydras_words(list(overrides), TrainConfig)), TrainConfig)


def test_the_default_choices_are_the_house_defaults():
    run = composed()
    assert {axis: run.parts[axis] for axis in run.parts} == {
        axis: registry.default(axis) for scope in ("block", "model") for axis in registry.axes(scope)
    }
    assert {axis: getattr(run, axis) for axis in registry.axes("run")} == {
        axis: registry.default(axis) for axis in registry.axes("run")
    }


def test_what_train_yaml_says_is_what_the_schemas_default_to():
    run = composed()
    assert run == TrainConfig(parts=run.parts, **{axis: getattr(run, axis) for axis in registry.axes("run")})


@pytest.mark.parametrize("preset", [p for p in PRESETS if p.parts[0] in TRAIN_GROUPS], ids=str)
def test_every_preset_composes_checks_and_builds(preset):
    run = composed(f"{preset.parts[0]}={preset.stem}")
    assert GPT.on_meta(resolve(run, 96)).parameter_count() > 0


@pytest.mark.parametrize("preset", [p.stem for p in PRESETS if p.parts[0] == "model"])
def test_the_command_line_wins_over_a_model_preset(preset):
    run = composed(f"model={preset}", "norm=dyt", "softmax=consmax", "model.n_layer=20", "position=alibi")
    assert (*(run.parts[axis].name for axis in ("norm", "softmax", "position")), run.model.n_layer) == (
        "dyt",
        "consmax",
        "alibi",
        20,
    )


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_every_exploration_composes_and_checks(name):
    composed(f"explorations={name}")


def test_every_shipped_yaml_says_what_it_is_for_in_a_comment():
    for file in [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "explorations").glob("*.yaml")]:
        comments = [line for line in file.read_text().splitlines() if line.startswith("# ") and "@package" not in line]
        assert comments, file


def test_presets_named_in_the_readme_do_what_they_say():
    run = composed("attention=gqa", "attention.n_kv_head=2", "norm=rmsnorm", "mlp=swiglu", "softmax=consmax")
    assert str(run.parts["attention"]) == "causal(n_kv_head=2)"
    assert (run.parts["mlp"].name, run.parts["activation"].name) == ("glu", "silu")
    assert composed("mlp=swiglu", "activation=gelu").parts["activation"].name == "gelu"


@pytest.mark.parametrize(
    ("preset", "parameters", "vocab_size"),
    # gpt2: Radford et al. 2019, smallest model. nanogpt_cpu: 0.80 M by nanoGPT's count, which leaves positions out.
    [("gpt2", 124_439_808, 50257), ("nanogpt_cpu", 804_096, 65), ("nanogpt_gpu", 10_745_088, 65)],
)
def test_presets_have_the_published_sizes(preset, parameters, vocab_size):
    assert GPT.on_meta(resolve(composed(f"model={preset}"), vocab_size)).parameter_count() == parameters


def test_a_checked_configuration_is_frozen_and_survives_yaml(tmp_path):
    run = composed("attention=gqa", "blocks={local: {attention: {window: 8}}}", "pattern=[local, default]")
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.seed = 3
    config.save_yaml(run, tmp_path / "config.yaml")
    again = check(config.load_yaml(tmp_path / "config.yaml"), TrainConfig)
    assert again == run
    assert again.identity == run.identity


def test_a_plugin_is_the_same_wherever_its_file_lies(tmp_path, monkeypatch):
    (tmp_path / "a_plugin.py").write_text("")
    monkeypatch.chdir(tmp_path)
    runs = [composed(f"plugins=[{given}]") for given in ("a_plugin", "./a_plugin.py", tmp_path / "a_plugin.py")]
    assert len({run.identity for run in runs}) == 1
    assert runs[0].identity != composed().identity


def test_layers_said_in_two_ways_are_the_same_trial():
    base = composed("model.n_layer=4")
    said = [
        ("blocks={a: {norm: layernorm}}", "pattern=[a,default]"),
        ("blocks={b: {norm: {name: layernorm}}}", "pattern=[b,default,b,default]"),
        ("layers={0: {norm: layernorm}, 2: {norm: layernorm}}",),
    ]
    identities = {composed("model.n_layer=4", *overrides).identity for overrides in said}
    assert len(identities) == 1
    assert base.identity not in identities
    sites = ("sites={norm: {final: layernorm}}", "sites={norm: {final: {name: layernorm}}, linear: {}}")
    assert len({composed(given).identity for given in sites} | {composed().identity}) == 2


def test_identity_is_what_decides_the_result_and_nothing_else():
    base = composed()
    assert (
        composed(
            "name=x", "out=elsewhere", "logger=tensorboard", "training.threads=1", "training.log_interval=3"
        ).identity
        == base.identity
    )
    assert composed("device=cpu", "training.checkpoint_interval=5").identity == base.identity
    for override in (
        "seed=1",
        "data.folder=other",
        "softmax=consmax",
        "training.max_steps=7",
        "optimizer.lr=0.1",
        "data.val_tokens=100",
    ):
        assert composed(override).identity != base.identity, override


def test_a_resumed_run_keeps_its_configuration_but_may_go_further(tmp_path):
    stored = composed("softmax=consmax", "training.max_steps=10")
    config.save_yaml(stored, tmp_path / "config.yaml")
    asked = {**schema.plain(composed("training.max_steps=20")), "resume": str(tmp_path)}
    again = check(resumed(asked, [f"resume={tmp_path}", "training.max_steps=20"]), TrainConfig)
    assert (again.parts["softmax"].name, again.training.max_steps) == ("consmax", 20)
    with pytest.raises(UserError, match="a resumed run keeps its own configuration"):
        resumed(asked, [f"resume={tmp_path}", "softmax=relumax"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.n_layer=1000000000", r"model\.n_layer: 1000000000 is too large, at most 4096"),
        ("model.d_model=4611686018427387904", r"model\.d_model: \d+ is too large, at most 1048576"),
        ("model.d_model=99999999999999999999", r"model\.d_model: 99999999999999999999 is more than 64 bits hold"),
        ("model.vocab_size=4611686018427387904", r"model\.vocab_size: \d+ is too large"),
        ("model.block_size=4611686018427387904", r"model\.block_size: \d+ is too large"),
        ("mlp.hidden=4611686018427387904", r"mlp\.hidden: \d+ is too large"),
        ("training.batch_size=4611686018427387904", r"training\.batch_size: \d+ is too large"),
        ("training.gradient_accumulation=99999999999999999999", r"gradient_accumulation: \d+ is more than 64 bits"),
        ("training.threads=100000", r"training\.threads: 100000 is too large, at most 1024"),
        ("training.max_steps=99999999999999999999", r"training\.max_steps: \d+ is more than 64 bits hold"),
        ("workers=100000", r"workers: 100000 is too large, at most 1024"),
        (f"optimizer.lr=1{'0' * 400}", r"optimizer\.lr: 10+\.\.\. is more than a number holds"),
        (f"name={'a' * 300}", r"name: 'a+\.\.\.' is too long, a name has at most 200 bytes"),
        (f"out={'a' * 300}", r"out: 'a+\.\.\.' is too long"),
        (f"study={'a' * 300}", r"study: 'a+\.\.\.' is too long"),
        (f"data.name={'a' * 300}", r"data\.name: 'a+\.\.\.' is too long"),
    ],
)
def test_what_no_machine_holds_is_refused(override, message):
    with pytest.raises(UserError, match=message):
        composed(override)


@pytest.mark.parametrize("key", ["name", "out", "study", "resume", "init_from", "device"])
@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31mb", "a\0b", ""])
def test_a_name_that_would_not_stay_on_its_line_is_refused(key, text):
    with pytest.raises(UserError, match=rf"^{key}: '.*': expected one line|^{key}: .* holds what is no text"):
        check(schema.plain(composed()) | {key: text}, TrainConfig)


def test_every_axis_is_a_group_and_none_is_listed_in_yaml():
    listed = OmegaConf.to_container(OmegaConf.load(presets.CONF / "train.yaml"))["defaults"]
    groups = {key for each in listed if isinstance(each, dict) for key in each}
    assert not groups & set(registry.axes())
    assert "axes" in listed
    assert composed("embedding=table", "head=linear") == composed()


def test_layers_and_sites_can_be_said_on_the_command_line():
    run = composed("layers={0: {attention: gqa}, 2: {mlp: gelu_mlp}}", "sites={linear: {down: ternary}}")
    first, second, third, _ = run.resolved_blocks()
    assert str(first.spec("attention")) == "causal(n_kv_head=2)"
    assert second == run.default_block()
    assert (third.spec("mlp").name, third.spec("activation").name) == ("mlp", "gelu")
    assert [block.spec("linear", "down").name for block in (first, third)] == ["ternary", "ternary"]


@pytest.mark.parametrize(
    "text",
    [
        "a: 3e-4\nb: [1, 2.5, x]\nc: {d: null, e: true}\nf: 2026-01-01\ng: 'no: key'\n",
        "deep: " + "[" * 600 + "]" * 600,
        "a: " + "x" * 1000,
        "a: 1\na: 2\n",
        "a: &b [1]\nc: *b\n",
        "a: ${oc.env:HOME}\n",
        "a: !!python/object/apply:os.system [x]\n",
        "- a\n",
        "",
        "a: [",
        "[" * 200_000,
        "- " * 200_000,
        "a:\n" + "".join(" " * i + "a:\n" for i in range(1, 700)),
    ],
    ids=lambda text: text[:12],
)
def test_the_fast_reader_of_yaml_reads_and_refuses_what_the_slow_one_does(tmp_path, monkeypatch, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)

    def outcome() -> object:
        try:
            return load_yaml(file)
        except UserError as error:
            return str(error).partition(" line ")[0][:60]

    fast = outcome()
    monkeypatch.setattr(config, "_is_shallow", lambda text: False)
    slow = outcome()
    assert fast == slow or (isinstance(fast, str) and isinstance(slow, str))
