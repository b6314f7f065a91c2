"""What training moves: frozen parameters stay, and optimizers are told when their weights are to be used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from minigpt.errors import UserError
from minigpt.training.fit import fit
from minigpt.training.optimizers.base import Optimizer
from minigpt.training.plan import dataset_of
from tests.training.test_fit import same_metrics, weights
from tests.training.test_resume import die_at, stored

PLUGINS = ["tests.training.plugin_parts"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_parameters_stay_and_are_counted_apart(configure, optimizer):
    frozen = {"plugins": PLUGINS, "mlp": {"name": "frozen_glu"}, "optimizer": {"name": optimizer}}
    first, last = (fit(configure(name=f"{n}", training={"max_steps": n}, **frozen)) for n in (1, 20))
    assert last.trainable_parameters == last.parameters - 2 * 3 * 32 * 88
    one, other = (load_file(r.folder / "checkpoint" / "last" / "model.safetensors") for r in (first, last))
    assert {n for n in one if torch.equal(one[n], other[n])} == {n for n in one if ".mlp." in n}
    folder = die_at(configure(training={"checkpoint_interval": 7}, **frozen), step=16)
    fit(stored(folder))
    assert weights(folder) == weights(last.folder)


def test_without_a_frozen_part_all_parameters_are_trained(configure):
    record = fit(configure(training={"max_steps": 1}))
    assert record.trainable_parameters == record.parameters


def test_a_model_with_nothing_to_train_is_refused(configure, tmp_path, monkeypatch):
    from minigpt.model import GPT

    monkeypatch.setattr(GPT, "trainable_count", lambda self: 0)
    with pytest.raises(UserError, match=r"nothing to train: all [\d,]+ parameters of this model are frozen"):
        fit(configure())
    assert not (tmp_path / "out").exists()


def test_muon_moves_hidden_matrices_alone_when_nothing_else_is_trained():
    from minigpt import registry
    from minigpt.model import GPT
    from minigpt.testing import make_spec

    model = GPT.create(make_spec())
    roles = model.roles()
    hidden = {n: p for n, p in model.named_parameters() if roles[n] in ("weight", "residual_out")}
    optimizer: Optimizer = registry.build(registry.spec("optimizer", "muon"), hidden, roles)
    assert len(optimizer.parts) == 1


def averaged(configure, **changes):
    return configure(plugins=PLUGINS, optimizer={"name": "averaged"}, **changes)


def test_validation_and_checkpoints_have_the_weights_that_are_meant_to_be_used(configure):
    plain = fit(configure(name="plain", training={"log_interval": 1}))
    record = fit(averaged(configure, training={"log_interval": 1}))
    trained, kept = ([m for m in same_metrics(r.folder) if "train_loss" in m] for r in (plain, record))
    assert [m["train_loss"] for m in kept] == [m["train_loss"] for m in trained]  # it trains on as if nobody looked
    assert record.val_loss != plain.val_loss
    assert weights(record.folder) != weights(plain.folder)


def test_an_optimizer_with_two_sets_of_weights_goes_on_exactly(configure):
    whole = fit(averaged(configure, name="whole"))
    folder = die_at(averaged(configure, training={"checkpoint_interval": 7}), step=16)
    fit(stored(folder))
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)


@pytest.mark.parametrize(("size", "refused"), [("2", True), ("many", True), ("1", False), ("", False)])
def test_several_processes_for_one_run_are_refused(configure, tmp_path, monkeypatch, size, refused):
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("RANK", "0")
    if not refused:
        assert fit(configure(training={"max_steps": 1})).status == "completed"
        return
    with pytest.raises(UserError, match=f"WORLD_SIZE={size}: a run trains in one process"):
        fit(configure())
    assert not (tmp_path / "out").exists()


def test_vectors_from_a_file_are_frozen_or_trained_and_a_run_goes_on_without_it(configure, tmp_path):
    shape = (dataset_of(configure()).vocab_size, 32)
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32))
    vectors = torch.from_numpy(np.load(tmp_path / "vectors.npy"))
    for frozen in (True, False):
        embedding = {"name": "table", "file": str(tmp_path / "vectors.npy"), "frozen": frozen}
        folder = die_at(configure(name=f"{frozen}", embedding=embedding, training={"checkpoint_interval": 7}), step=16)
        (tmp_path / "vectors.npy").rename(tmp_path / "away")
        record = fit(stored(folder))
        (tmp_path / "away").rename(tmp_path / "vectors.npy")
        table = load_file(folder / "checkpoint" / "last" / "model.safetensors")["embedding.weight"]
        assert record.trainable_parameters == record.parameters - frozen * vectors.numel()
        assert torch.equal(table, vectors) == frozen
        assert (table - vectors).abs().max() < 0.5  # a step moves it by 0.002 at most


def test_rates_by_width_resume_bit_by_bit_and_are_refused_where_steps_have_another_size(configure):
    mup = {"init": {"name": "mup", "base_width": 8}, "model": {"tie_embeddings": False}}
    whole = fit(configure(name="whole", **mup))
    folder = die_at(configure(training={"checkpoint_interval": 7}, **mup), step=16)
    fit(stored(folder))
    assert weights(folder) == weights(whole.folder)
    with pytest.raises(UserError, match="optimizer=muon: init scales learning rates by width as steps of Adam"):
        fit(configure(name="muon", optimizer={"name": "muon"}, **mup))
