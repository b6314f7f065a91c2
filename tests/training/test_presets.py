"""The presets of ``model=``: what they are, and that the command line is stronger."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from minigpt import cli, config
from minigpt.config import TrainConfig
from minigpt.model import GPT, resolve

PRESETS = sorted(file.stem for file in (cli.CONF / "model").glob("*.yaml"))


def composed(*overrides: str) -> TrainConfig:
    cli.store_components()
    with initialize_config_dir(str(cli.CONF), version_base=None):
        return config.check(compose("train", list(overrides)), TrainConfig)


def parameters(run: TrainConfig, vocab_size: int) -> int:
    return GPT.on_meta(resolve(run, vocab_size)).parameter_count()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_builds(preset):
    assert parameters(composed(f"model={preset}"), 65) > 100_000


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_line_is_stronger_than_a_preset(preset):
    run = composed(
        *("norm=dyt", "attention=linear", "mlp=identity", "position=nope", "activation=silu", "optimizer=muon"),
        *("schedule=constant", f"model={preset}", "model.n_layer=3", "training.max_steps=7", "optimizer.lr=0.5"),
    )
    chosen = (
        run.parts["norm"],
        run.parts["attention"],
        run.parts["mlp"],
        run.parts["position"],
        run.parts["activation"],
        run.optimizer,
        run.schedule,
    )
    assert [c.name for c in chosen] == ["dyt", "linear", "identity", "nope", "silu", "muon", "constant"]
    assert (run.model.n_layer, run.training.max_steps, run.optimizer.options.lr) == (3, 7, 0.5)
    assert parameters(run, 65) > 0


def test_a_preset_of_one_part_brings_what_it_needs_even_over_a_model_preset():
    run = composed("model=gpt2", "mlp=swiglu")
    assert (run.parts["mlp"].name, run.parts["activation"].name) == (
        "glu",
        "silu",
    )  # not the GELU that GPT-2's own MLP brings


def test_gpt2_has_the_parameters_of_gpt2():
    assert parameters(composed("model=gpt2"), 50257) == 124_439_808


def test_nanogpt_cpu_is_nanogpts():
    run = composed("model=nanogpt_cpu", "data=shakespeare_char")
    sizes, training, adamw, cosine = run.model, run.training, run.optimizer.options, run.schedule.options
    assert (sizes.n_layer, sizes.n_head, sizes.d_model, sizes.block_size) == (4, 4, 128, 64)
    assert (sizes.bias, sizes.dropout, sizes.tie_embeddings) == (False, 0.0, True)
    assert (training.batch_size, training.max_steps, training.eval_interval, training.clip_norm) == (12, 2000, 250, 1.0)
    assert (adamw.lr, adamw.beta1, adamw.beta2, adamw.weight_decay) == (1e-3, 0.9, 0.99, 0.1)
    assert (cosine.warmup_steps, cosine.min_factor) == (100, 0.1)
    assert (
        run.parts["norm"].name,
        run.parts["mlp"].name,
        run.parts["activation"].name,
        run.parts["position"].name,
    ) == (
        "layernorm",
        "mlp",
        "gelu",
        "learned",
    )
    # nanoGPT counts these without the positions: 0.80 M
    assert parameters(run, 65) - sizes.block_size * sizes.d_model == 795_904


@pytest.mark.parametrize(
    ("preset", "shape"), [("tiny", (8, 128, 4, 1)), ("small", (12, 384, 12, 3)), ("medium", (20, 640, 16, 4))]
)
def test_minigpt_sizes(preset, shape):
    run = composed(f"model={preset}")
    assert (run.model.n_layer, run.model.d_model, run.model.n_head, run.parts["attention"].options.n_kv_head) == shape
