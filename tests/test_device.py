"""Devices, number formats, random generators."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from minigpt.device import (
    BF16_PAYS_FROM,
    Precision,
    choose_device,
    choose_precision,
    is_out_of_memory,
    peak_memory,
    random_state,
    seed_everything,
    set_random_state,
)
from minigpt.errors import UserError

CPU = torch.device("cpu")


def test_auto_is_the_best_device_there_is():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == expected
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "mps:0", "tpu", ""])
def test_an_unknown_device_is_refused_with_the_choices(name):
    with pytest.raises(UserError, match=r"device: there is no device .*\n  choices: auto, cpu, cuda"):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_device_that_is_not_there_is_refused_with_the_way_out(name):
    with pytest.raises(UserError, match=r"sees no CUDA device\. Take device=auto"):
        choose_device(name)


def test_bf16_on_a_cpu_only_where_it_was_measured_to_pay(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert choose_precision("auto", CPU, BF16_PAYS_FROM - 1).name == "fp32"
    assert choose_precision("auto", CPU, BF16_PAYS_FROM).name == "bf16"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert choose_precision("auto", CPU, BF16_PAYS_FROM).name == "fp32"


@pytest.mark.parametrize(
    ("name", "bits", "dtype"), [("fp32", 32, None), ("bf16", 16, "bfloat16"), ("fp16", 16, "float16")]
)
def test_a_format_decides_the_products_and_the_scaler(name, bits, dtype):
    precision = choose_precision(name, CPU, 32)
    with precision.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert precision.bits == bits
    assert product.dtype == (torch.float32 if dtype is None else getattr(torch, dtype))
    assert Precision(name, CPU).scaler().is_enabled() == (name == "fp16")


def test_every_generator_goes_back_to_where_it_was(tmp_path):
    def draw() -> tuple:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(3)
    first = draw()
    torch.save(random_state(CPU), tmp_path / "state.pt")
    second = draw()
    seed_everything(3)
    assert draw() == first
    seed_everything(4)
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True), CPU)
    assert draw() == second


def test_out_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes"))


def test_peak_memory_is_of_this_process():
    assert peak_memory(CPU) > 10 * 2**20
