"""Embeddings and heads: what they compute, what they read from files, and what stays as it was."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from minigpt.components.embedding.vectors import read_vectors
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.model.checkpoint import load_checkpoint
from minigpt.testing import make_spec
from minigpt.testing.models import batch, loss_of, moved
from tests.components.parts import call, part, values
from tests.model.checkpoints import save

SHAPE = (50, 32)


def test_a_table_is_pytorch_s_embedding():
    ours, theirs = part("embedding", "table"), nn.Embedding(*SHAPE)
    theirs.load_state_dict(ours.state_dict())
    assert isinstance(ours, nn.Embedding)
    torch.testing.assert_close(ours(batch(), call()), theirs(batch()))
    torch.testing.assert_close(part("embedding", "table", scaled=True)(batch(), call()), 32**0.5 * theirs(batch()))


def test_normalised_rows_are_of_length_one_in_the_embedding_and_in_the_tied_head():
    table, x = part("embedding", "table", normalised=True), values(2, 5, 32)
    torch.testing.assert_close(table(batch(), call()).norm(dim=-1), torch.ones(3, 16))
    torch.testing.assert_close(
        table.unembed(x), F.cosine_similarity(x[..., None, :], table.weight, dim=-1) * x.norm(dim=-1)[..., None]
    )
    with torch.no_grad():
        table.weight[batch()[0, 0]] = 0
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert table.to(dtype)(batch(), call()).isfinite().all()
        assert table.unembed(x.to(dtype)).isfinite().all()


def test_a_factorised_table_is_the_product_of_its_factors_on_the_way_in_and_out():
    factors, x = part("embedding", "factorised", rank=5).double(), values(2, 5, 32).double()
    whole = factors.weight @ factors.up.T  # (50, 32)
    torch.testing.assert_close(factors(batch(), call()), whole[batch()])
    torch.testing.assert_close(factors.unembed(x), x @ whole.T)
    assert sum(p.numel() for p in factors.parameters()) == 50 * 5 + 32 * 5


def test_a_factorised_table_that_saves_nothing_is_refused():
    with pytest.raises(UserError, match=r"embedding\.rank: 32 is no less than model\.d_model=32"):
        part("embedding", "factorised", rank=32)


def test_a_tied_head_goes_through_both_factors():
    model = moved(GPT.create(make_spec(embedding={"name": "factorised", "rank": 5}, n_layer=1)))
    assert model.head.linear is None
    loss_of(model, batch()).backward()
    before = {name: p.grad.clone() for name, p in model.embedding.named_parameters()}
    untied = moved(GPT.create(make_spec(embedding={"name": "factorised", "rank": 5}, n_layer=1, tie_embeddings=False)))
    loss_of(untied, batch()).backward()
    unseen = sorted(set(range(50)) - set(batch()[:, :-1].flatten().tolist()))
    assert before["weight"][unseen].abs().min() > 0  # from the head alone
    assert untied.embedding.weight.grad[unseen].abs().max() == 0


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_come_from_npy_files(tmp_path, kind, order):
    table = np.asarray(values(*SHAPE).numpy().astype(kind), order=order)
    np.save(tmp_path / "a.npy", table)
    assert torch.equal(read_vectors(str(tmp_path / "a.npy"), SHAPE), torch.from_numpy(table.astype(np.float32)))


def test_vectors_come_from_the_fitting_tensor_of_a_safetensors_file(tmp_path):
    file = str(tmp_path / "a.safetensors")
    table = values(*SHAPE).bfloat16()
    save_file({"other": values(3, 3), "table": table}, file)
    assert torch.equal(read_vectors(file, SHAPE), table.float())
    save_file({"one": table, "two": table + 1}, file)
    with pytest.raises(UserError, match="one, two are all of shape 50 x 32"):
        read_vectors(file, SHAPE)


def hostile_files():
    """name -> content that must be refused, and what is said of it."""

    def npy(table, **more):
        stream = io.BytesIO()
        np.save(stream, table, **more)
        return stream.getvalue()

    good = npy(np.zeros(SHAPE, np.float32))
    nan = np.zeros(SHAPE, np.float32)
    nan[3, 3] = np.nan
    return {
        "objects.npy": (npy(np.full(SHAPE, "x", object), allow_pickle=True), "expected numbers of 16, 32 or 64 bits"),
        "short.npy": (good[:-1], "ends before its last number"),
        "narrow.npy": (npy(np.zeros((50, 31), np.float32)), "its table is 50 x 31, the model's is 50 x 32"),
        "whole.npy": (npy(np.zeros(SHAPE, np.int64)), "holds int64, expected numbers"),
        "empty.npy": (b"", "not a .npy file"),
        "huge.npy": (good.replace(b"(50, 32)", b"(9**9,2)"), "not a .npy file"),
        "nan.npy": (npy(nan), "not finite"),
        "text.safetensors": (b"no such file", "not a .safetensors file"),
        "a.pkl": (good, "expected a .npy or a .safetensors file"),
        "a.npz": (good, "expected a .npy or a .safetensors file"),
    }


@pytest.mark.parametrize("name", hostile_files())
def test_a_file_that_is_no_table_of_the_model_s_size_is_refused(tmp_path, name):
    content, sentence = hostile_files()[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"^embedding.file: .*{sentence}"):
        read_vectors(str(tmp_path / name), SHAPE)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, suffix):
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    (tmp_path / f"folder{suffix}").mkdir()
    for name in ("pipe", "folder", "missing"):
        with pytest.raises(UserError, match=f"{name}{suffix}: could not be read"):
            read_vectors(str(tmp_path / f"{name}{suffix}"), SHAPE)


def test_a_checkpoint_holds_imported_and_frozen_vectors_and_needs_their_file_no_more(tmp_path):
    file = tmp_path / "vectors.npy"
    np.save(file, values(*SHAPE).numpy())
    spec = make_spec(embedding={"name": "table", "file": str(file), "frozen": True}, n_layer=1)
    model = GPT.create(spec)
    assert torch.equal(model.embedding.weight, values(*SHAPE))
    assert not model.embedding.weight.requires_grad
    assert model.trainable_count() == model.parameter_count() - 50 * 32
    loss_of(model, batch()).backward()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    save(tmp_path / "checkpoint", model)
    file.unlink()
    again = load_checkpoint(tmp_path / "checkpoint").model
    assert torch.equal(again.embedding.weight, values(*SHAPE))
    assert not again.embedding.weight.requires_grad
    with pytest.raises(UserError, match="could not be read"):
        GPT.create(spec)


def test_a_head_scales_its_logits_before_it_caps_them():
    head, x = part("head", "linear", None, scale=0.5, softcap=2.0), values(1, 3, 32)
    logits = head.linear(x) / 2
    torch.testing.assert_close(head(x, call(0, 3)), 2 * torch.tanh(logits / 2))
