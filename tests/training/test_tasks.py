"""Tasks: next_token against its formulas; and what the seams carry, on tasks that none of the project's is like."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
import torch.nn.functional as F

from minigpt import config, registry
from minigpt.config import TrainConfig, load_yaml
from minigpt.data.batch import Tokens
from minigpt.errors import UserError
from minigpt.model import Output
from minigpt.training.fit import fit
from minigpt.training.metrics import read_metrics
from minigpt.training.record import read_run
from tests.training.test_fit import same_metrics, weights
from tests.training.test_resume import die_at, stored

PLUGINS = ["tests.training.plugin_tasks"]


def loss_of(logits: torch.Tensor, targets: torch.Tensor, **options) -> torch.Tensor:
    task = registry.build(registry.spec("task", {"name": "next_token", **options}))
    return task(Output(logits, {}, {}, {}, {}), Tokens(targets, targets), 0).loss


def a_batch(dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 11, generator=generator).to(dtype).requires_grad_()
    return logits, torch.randint(0, 11, (2, 5), generator=generator)


@pytest.fixture
def learning(configure):
    """learning(task, name="run", **changes) -> a checked run of a plugin's task."""

    def learning(task: str | dict, **changes) -> TrainConfig:
        node = {"name": task} if isinstance(task, str) else task
        return configure(plugins=PLUGINS, task=node, **changes)

    return learning


def test_the_loss_is_a_finite_scalar_with_a_gradient_for_every_logit():
    logits, targets = a_batch(torch.bfloat16)
    loss = loss_of(logits, targets)
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).all()


def test_next_token_is_the_mean_surprise_of_the_targets():
    logits, targets = a_batch()
    surprise = -torch.log_softmax(logits, -1).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(loss_of(logits, targets), surprise)


def test_z_loss_adds_the_squared_log_partition():
    logits, targets = a_batch()
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    extra = torch.logsumexp(logits, -1).square().mean()
    torch.testing.assert_close(loss_of(logits, targets, z_loss=0.01), plain + 0.01 * extra)


def test_equal_logits_cost_the_logarithm_of_the_vocabulary():
    assert float(loss_of(torch.zeros(1, 3, 7), torch.tensor([[0, 3, 6]]))) == pytest.approx(math.log(7))


def test_a_loss_mask_is_learned_by_and_its_figures_reach_metrics_and_record(learning):
    record = fit(learning("second_half"))
    logs = [line for line in read_metrics(record.folder) if "train_loss" in line]
    assert all(0 <= line["accuracy"] <= 1 for line in logs)
    assert [line["learned.3"] for line in logs] == [0.5] * 4  # one value per row of the batch
    assert record.figures["accuracy"] == logs[-1]["accuracy"]
    assert set(record.figures) == {"accuracy", "learned.0", "learned.1", "learned.2", "learned.3"}
    assert read_run(record.folder).figures == record.figures
    assert record.stage == "instruction tuning"
    assert record.tokens_seen == 20 * 4 * 16


def test_a_masked_target_teaches_nothing(learning):
    """Of two runs that differ in the first half's targets alone, the weights are the same."""
    from minigpt.data.dataset import Dataset

    whole = fit(learning("second_half"))
    original = Dataset.train_batch

    def other_targets(self, *sizes):
        batch = original(self, *sizes)
        batch.targets[:, :8] = 0
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "train_batch", other_targets)
        other = fit(learning("second_half", name="other"))
    assert weights(other.folder) == weights(whole.folder)


def test_figures_are_means_over_every_micro_batch_of_the_line(learning):
    """Four micro-batches of one row measure what one of four rows does."""
    whole = fit(learning("second_half", training={"log_interval": 1, "max_steps": 1}))
    training = {"log_interval": 1, "max_steps": 1, "batch_size": 1, "gradient_accumulation": 4}
    from minigpt.data.dataset import Dataset

    original = Dataset.train_batch

    def row(self, number, size, block_size, seed):
        batch = original(self, number // 4, 4 * size, block_size, seed)
        return Tokens(batch.inputs[number % 4 :][:1], batch.targets[number % 4 :][:1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "train_batch", row)
        split = fit(learning("second_half", name="split", training=training))
    assert split.figures["accuracy"] == pytest.approx(whole.figures["accuracy"])
    assert split.train_loss == pytest.approx(whole.train_loss, rel=1e-5)


def test_a_loss_in_a_unit_of_its_own_has_not_diverged_because_it_is_large(learning):
    record = fit(learning("scaled"))
    assert record.status == "completed"
    assert record.train_loss > 100


SEAMS = ["tests.seams", *PLUGINS]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_auxiliary_losses_are_added_once_with_their_weight_and_logged_under_their_name(configure, checkpointed):
    training = {"log_interval": 1, "activation_checkpointing": checkpointed}
    changes = {"plugins": SEAMS, "model": {"dropout": 0.1}}
    light, heavy = (
        fit(configure(name=f"balance{b}", mlp={"name": "tiny_moe", "balance": b}, training=training, **changes))
        for b in (0.0, 10.0)
    )
    first, second = (read_metrics(record.folder)[0] for record in (light, heavy))
    assert first["train_loss"] == second["train_loss"]  # the task's alone, so that models compare
    assert first["balance"] == second["balance"] >= 2.0  # both layers', before their weight; 1 is perfect balance
    assert heavy.figures["balance"] < light.figures["balance"]
    loads = [light.figures[f"expert_load.{layer}.{expert}"] for layer in (0, 1) for expert in range(4)]
    assert sum(loads) == pytest.approx(4.0)  # two of four experts, in two layers
    assert set(read_metrics(light.folder)[-1]) == {"step", "tokens", "seconds", "val_loss", "bits_per_byte"}


def test_checkpointed_activations_change_nothing_of_what_is_recorded(configure):
    changes = {"plugins": SEAMS, "mlp": {"name": "tiny_moe"}, "model": {"dropout": 0.2}}
    plain = fit(configure(name="plain", **changes))
    frugal = fit(configure(name="frugal", training={"activation_checkpointing": True}, **changes))
    assert same_metrics(frugal.folder) == same_metrics(plain.folder)


def test_a_model_that_records_goes_on_exactly(configure):
    changes = {"plugins": SEAMS, "mlp": {"name": "tiny_moe"}}
    whole = fit(configure(name="whole", **changes))
    folder = die_at(configure(training={"checkpoint_interval": 7}, **changes), step=16)
    assert fit(stored(folder)).figures == whole.figures
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)


def test_a_task_gets_the_tensors_it_needs_from_the_model(configure, tmp_path):
    task = {"plugins": SEAMS, "task": {"name": "next_two"}}
    record = fit(configure(head={"name": "two_tokens"}, **task))
    assert record.figures["second"] > record.figures["first"] > 0
    with pytest.raises(UserError, match="task=next_two: no part of this model provides 'second_logits'; provided: not"):
        fit(configure(name="other", **task))
    assert not (tmp_path / "out" / "other").exists()


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_task_with_figures_goes_on_exactly(learning, accumulation):
    changes = {"model": {"dropout": 0.2}}
    training = {"gradient_accumulation": accumulation}
    whole = fit(learning("second_half", name="whole", training=training, **changes))
    folder = die_at(learning("second_half", training=training | {"checkpoint_interval": 7}, **changes), step=16)
    assert fit(stored(folder)).figures == whole.figures
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)


@pytest.fixture
def teacher(configure):
    return fit(configure(name="teacher", model={"d_model": 48}, training={"max_steps": 60})).folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_task_learns_from_a_further_model(learning, teacher, precision):
    untouched = weights(teacher)
    task = {"name": "distill", "teacher": str(teacher), "share": 1.0}
    record = fit(learning(task, training={"precision": precision, "max_steps": 60}))
    distances = [line["distance"] for line in read_metrics(record.folder) if "distance" in line]
    assert distances[-1] < 0.7 * distances[0]
    assert weights(teacher) == untouched
    assert record.parameters == fit(learning("second_half", name="alone")).parameters  # the teacher's are not counted


def test_a_further_model_is_there_again_when_a_run_goes_on(learning, teacher):
    task = {"name": "distill", "teacher": str(teacher)}
    whole = fit(learning(task, name="whole"))
    folder = die_at(learning(task), step=15)
    fit(stored(folder))
    assert weights(folder) == weights(whole.folder)


def test_a_further_model_that_is_missing_or_does_not_fit_is_named_before_anything_is_written(
    learning, teacher, tmp_path
):
    def refused(message: str, **changes) -> None:
        with pytest.raises(UserError, match=message):
            fit(learning({"name": "distill", "teacher": str(teacher)}, **changes))
        assert not (tmp_path / "out" / "run").exists()

    refused(r"task=distill: teacher: .*: context 16 and vocabulary \d+; this model, with 32", model={"block_size": 32})
    shutil.rmtree(teacher / "checkpoint")
    refused("task=distill: teacher: .*no checkpoint here")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("prefer", "task=prefer: reads Pairs, and dataset 'words' gives Tokens"),
        ("look_inside", "task=look_inside: no part of this model provides 'attention_map'"),
    ],
)
def test_what_dataset_or_model_cannot_give_is_refused_before_anything_is_written(learning, tmp_path, task, message):
    with pytest.raises(UserError, match=message):
        fit(learning(task))
    assert not (tmp_path / "out").exists()


def test_a_figure_may_not_be_called_what_every_log_line_calls_one(learning):
    with pytest.raises(UserError, match="figure 'val_loss' of the task: the name is one of every log line"):
        fit(learning("takes_a_name"))


def test_a_task_survives_the_configuration_file(learning):
    folder = fit(learning("second_half", training={"max_steps": 1})).folder
    assert config.check(load_yaml(folder / "config.yaml"), TrainConfig).task.name == "second_half"
