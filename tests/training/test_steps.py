"""One step of the loop: what accumulation, clipping, checkpointing, precision and compiling may and may not change."""

from __future__ import annotations

import pytest
import torch

from minigpt.config import TrainConfig
from minigpt.data.batch import Tokens
from minigpt.data.dataset import Dataset, open_dataset
from minigpt.device import Precision
from minigpt.model import resolve
from minigpt.training.record import RunRecord
from minigpt.training.trainer import Trainer


@pytest.fixture
def trainer(tmp_path):
    """trainer(run, dataset=None) -> a Trainer at step 0, in a folder of its own."""
    made: list[Trainer] = []

    def trainer(run: TrainConfig, dataset: Dataset | None = None, precision: str = "fp32") -> Trainer:
        folder = tmp_path / f"trainer{len(made)}"
        folder.mkdir()
        dataset = dataset or opened(run)
        record = RunRecord(name=folder.name, status="running", config_hash="", seed=0, folder=folder)
        torch.manual_seed(0)
        spec = resolve(run, dataset.vocab_size)
        made.append(Trainer(run, spec, dataset, Precision(precision, torch.device("cpu")), record))
        return made[-1]

    return trainer


def opened(run: TrainConfig) -> Dataset:
    return open_dataset(run.data.name, run.data.folder, block_size=run.model.block_size, val_tokens=run.data.val_tokens)


def loss_of(trainer: Trainer) -> float:
    return trainer.window.means()["train_loss"]


class InParts:
    """A dataset whose batches are parts of another's: micro-batch i is part i % n of batch i // n."""

    def __init__(self, whole: Dataset, parts: int):
        self.whole, self.parts = whole, parts
        self.vocab_size = whole.vocab_size

    def train_batch(self, step: int, batch_size: int, block_size: int, seed: int) -> Tokens:
        batch = self.whole.train_batch(step // self.parts, batch_size * self.parts, block_size, seed)
        rows = slice(step % self.parts * batch_size, (step % self.parts + 1) * batch_size)
        return Tokens(batch.inputs[rows], batch.targets[rows])


def test_accumulated_micro_batches_equal_one_big_batch(configure, trainer):
    whole = trainer(configure(training={"batch_size": 8}))
    parts = configure(training={"batch_size": 2, "gradient_accumulation": 4})
    split = trainer(parts, InParts(opened(parts), 4))
    for _ in range(3):
        whole.step()
        split.step()
    assert split.at.tokens == whole.at.tokens == 3 * 8 * 16
    assert split.window.means() == pytest.approx(whole.window.means())
    for one, other in zip(split.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_micro_batches_are_never_drawn_twice(configure, trainer, monkeypatch):
    accumulating = trainer(configure(training={"gradient_accumulation": 3}))
    drawn = []
    train_batch = accumulating.dataset.train_batch
    monkeypatch.setattr(accumulating.dataset, "train_batch", lambda n, *a: drawn.append(n) or train_batch(n, *a))
    for _ in range(4):
        accumulating.step()
    assert drawn == list(range(12))


def test_activation_checkpointing_changes_neither_loss_nor_gradients(configure, trainer):
    plain = trainer(configure(model={"dropout": 0.3}))
    frugal = trainer(configure(model={"dropout": 0.3}, training={"activation_checkpointing": True}))
    losses = []
    for each in (plain, frugal):
        torch.manual_seed(5)
        losses.append(each.backward(0))
    assert torch.equal(*losses)
    for one, other in zip(plain.model.parameters(), frugal.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("norm", [0.01, None])
def test_gradients_are_clipped_to_the_norm_asked_for(configure, trainer, monkeypatch, norm):
    clipping = trainer(configure(training={"clip_norm": norm, "log_interval": 1}))
    seen = []
    optimizer_step = clipping.optimizer.step

    def step(scaler):
        seen.append(float(torch.nn.utils.get_total_norm([p.grad for p in clipping.parameters])))
        optimizer_step(scaler)

    monkeypatch.setattr(clipping.optimizer, "step", step)
    clipping.step()
    unclipped = float(clipping.grad_norm)
    assert unclipped > 0.1
    assert seen == pytest.approx([unclipped if norm is None else norm], rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_learns_what_fp32_learns(configure, trainer, precision):
    exact, rounded = trainer(configure()), trainer(configure(), precision=precision)
    for each in (exact, rounded):
        for _ in range(20):
            each.step()
    assert all(p.dtype == torch.float32 for p in rounded.model.parameters())
    assert loss_of(rounded) == pytest.approx(loss_of(exact), rel=0.02)
    assert loss_of(rounded) != loss_of(exact)


def test_fp16_scales_the_loss_and_skips_an_overflowing_step(configure, trainer):
    scaled = trainer(configure(), precision="fp16")
    before = [p.detach().clone() for p in scaled.parameters]
    scaled.step()  # at the first scale of 65536
    assert scaled.scaler.get_scale() == 65536
    assert any(not torch.equal(a, b) for a, b in zip(before, scaled.parameters, strict=True))
    scaled.scaler.update(2.0**126)
    before = [p.detach().clone() for p in scaled.parameters]
    scaled.step()
    assert all(torch.equal(a, b) for a, b in zip(before, scaled.parameters, strict=True))
    assert scaled.scaler.get_scale() < 2.0**126


def test_a_compiled_model_is_saved_under_its_plain_names(configure, trainer, monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, "disable", True)  # wraps, but does not spend the time to compile
    compiled = trainer(configure(training={"compile": True}))
    assert compiled.forward is not compiled.model
    compiled.step()
    compiled.save("last")
    from safetensors import safe_open

    with safe_open(compiled.folder / "checkpoint" / "last" / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "_orig_mod" in name]  # noqa: SIM118 (no mapping)


def test_the_loss_stays_on_the_device_between_log_lines(configure, trainer, monkeypatch):
    steady = trainer(configure())
    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: pytest.fail("a step waited for the device"))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda tensor: pytest.fail("a step waited for the device"))
    for _ in range(3):
        steady.step()
    assert steady.window.sums["train_loss"].shape == ()
