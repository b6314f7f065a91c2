"""Heads of other projects' checkpoints: what torch and transformers wrote is seen as it is, and no file can do more."""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from minigpt.errors import UserError
from minigpt.exchange import heads

TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool)


def numbers(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(-6, 6).to(dtype) if dtype not in (torch.uint8, torch.bool) else torch.arange(12).to(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_values_are_read_as_torch_has_them(tmp_path, dtype):
    tensor = numbers(dtype).reshape(3, 4)
    torch.save({"a": tensor}, tmp_path / "a.pt")
    save_file({"a": tensor}, tmp_path / "a.safetensors")
    for head in (heads.read_torch(tmp_path / "a.pt")["a"], heads.read_safetensors(tmp_path / "a.safetensors")["a"]):
        assert (head.shape, head.size) == ((3, 4), 12)
        np.testing.assert_array_equal(head.values().astype("f8"), tensor.double().flatten().numpy())


def test_shared_parameters_count_once_and_views_are_known(tmp_path):
    weight = torch.randn(10, 4)
    content = {"wte": weight, "head": weight, "t": torch.randn(3, 5).t(), "gaps": torch.randn(8)[::2]}
    torch.save(content | {"part": weight[2:4]}, tmp_path / "a.pt")
    found = heads.tensors_in(heads.read_torch(tmp_path / "a.pt"))
    assert heads.parameters(found) == 40 + 15 + 4 + 8
    assert found["gaps"].values() is None
    assert sorted(found["t"].values()) == sorted(content["t"].flatten().tolist())
    np.testing.assert_array_equal(found["part"].values(), weight[2:4].flatten().numpy())


def test_a_training_state_is_plain_but_for_its_tensors(tmp_path):
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(1, 3)).sum().backward()
    optimizer.step()
    state = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "best": torch.tensor(1.5)}
    torch.save(state, tmp_path / "a.pt")
    content = heads.read_torch(tmp_path / "a.pt")
    assert set(content["model"]) == {"weight", "bias"}
    assert content["optimizer"]["state"][0]["exp_avg"].shape == (2, 3)
    assert content["best"].values().tolist() == [1.5]


class Payload:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def with_pickle(file, content: bytes, entries=()) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", content)
        for name, data in entries:
            archive.writestr(name, data)


BUILD_ON_FUNCTION = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}(X\x0c\x00\x00\x00__defaults__)u\x86b."
WITHOUT_NUMBERS = (
    b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x09tQ."
)
BUILD_ON_DICT = b"\x80\x02ccollections\nOrderedDict\n)R}(X\x05\x00\x00\x00itemsX\x01\x00\x00\x00xub."


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (pickle.dumps(Payload(), protocol=2), r"names \w+\.mkdir, which is no tensor"),
        (pickle.dumps(collections.Counter, protocol=2), r"names collections\.Counter"),
        (BUILD_ON_FUNCTION, "changes what it names"),
        (b"\x80\x02K\x01Q.", "cannot be read"),
        (WITHOUT_NUMBERS, "cut off"),
        (b"", "cannot be read"),
        (b"\x80\x02" + b"(" * 100, "cannot be read"),
    ],
)
def test_a_pickle_that_does_anything_else_is_refused_and_does_nothing(tmp_path, monkeypatch, pickled, reason):
    monkeypatch.chdir(tmp_path)
    with_pickle(tmp_path / "a.pt", pickled)
    with pytest.raises(UserError, match=reason):
        heads.read_torch(tmp_path / "a.pt")
    assert os.listdir() == ["a.pt"]


def test_attributes_that_a_pickle_hangs_on_a_dict_are_left_out(tmp_path):
    with_pickle(tmp_path / "a.pt", BUILD_ON_DICT)
    assert heads.tensors_in(heads.read_torch(tmp_path / "a.pt")) == {}


def test_zip_bombs_and_torn_files_are_refused(tmp_path):
    file = tmp_path / "a.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * (heads.LARGEST_PICKLE + 1))
    with pytest.raises(UserError, match="its pickle has"):
        heads.read_torch(file)
    torch.save({"a": torch.zeros(100)}, file)
    whole = file.read_bytes()
    for cut in (0, 3, 40, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="cannot be read"):
            heads.read_torch(file)
    torch.save({"a": torch.zeros(100)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="no zip"):
        heads.read_torch(file)


def test_a_packed_tensor_is_refused_which_could_be_larger_than_any_memory(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(UserError, match="are missing"):
        heads.read_torch(tmp_path / "a.pt")


HEADERS = {
    "no json": b"nonsense",
    "a list": b"[]",
    "no dtype": b'{"a": {"shape": [1], "data_offsets": [0, 4]}}',
    "a negative shape": b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
    "too short": b'{"a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}}',
    "another size": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
    "backwards": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
    "texts": b'{"a": {"dtype": "F32", "shape": "11", "data_offsets": "04"}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_promises_what_is_not_there_is_refused(tmp_path, header):
    content = HEADERS[header]
    (tmp_path / "a.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + b"\0" * 4)
    with pytest.raises(UserError, match="cannot be read"):
        heads.read_safetensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [b"", b"\1", (2**63).to_bytes(8, "little"), (100).to_bytes(8, "little") + b"{}"])
def test_a_torn_safetensors_is_refused(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        heads.read_safetensors(tmp_path / "a.safetensors")


def test_shards_are_put_together_and_a_missing_one_is_named(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    save_file({"a": torch.zeros(2)}, tmp_path / "one.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "two.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    assert heads.parameters(heads.read_weights(tmp_path)) == 5
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(UserError, match=r"two\.safetensors"):
        heads.read_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../one.safetensors"}}))
    with pytest.raises(UserError, match="expected weight_map, the file of every tensor, beside it"):
        heads.read_weights(tmp_path)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(UserError, match="no plain file"):
        heads.read_torch(tmp_path / "a.pt")
