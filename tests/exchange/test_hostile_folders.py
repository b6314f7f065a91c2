"""Folders and files from strangers: nothing leads out of them, nothing is believed that is not there, each ends in a
clear error."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct

import pytest
import torch

from minigpt.errors import UserError
from minigpt.exchange.config import ImportConfig
from minigpt.exchange.families import FAMILIES
from minigpt.exchange.huggingface import family_of, spec_from_config
from minigpt.exchange.importing import import_
from minigpt.exchange.opened import open_model
from minigpt.exchange.trained import load_trained
from minigpt.model import GPT


@pytest.fixture
def folder(theirs, tmp_path):
    return shutil.copytree(theirs("llama")[1], tmp_path / "model")


@pytest.fixture
def sharded(theirs, tmp_path):
    """The same in two files and an index."""
    folder = shutil.copytree(theirs("llama")[1], tmp_path / "sharded")
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {}
    for number, part in enumerate((names[:5], names[5:])):
        save_file({name: tensors[name] for name in part}, folder / f"part-{number}.safetensors")
        where |= dict.fromkeys(part, f"part-{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def header(content: object, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
WEIGHTS = {
    "nothing": b"",
    "half a length": b"\x01\x00",
    "a header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "a header that ends early": struct.pack("<Q", 100) + b"{}",
    "no JSON": header(b"\xff\xfe\x00"),
    "a nest": header(b"[" * 50_000),
    "a list": header([1, 2]),
    "a tensor outside the file": header({"a": ENTRY | {"data_offsets": [0, 2**40]}}),
    "a tensor of endless size": header({"a": ENTRY | {"shape": [2**40, 2**40]}}, bytes(8)),
    "a negative size": header({"a": ENTRY | {"shape": [-1]}}, bytes(8)),
    "tensors over one another": header({"a": ENTRY, "b": ENTRY}, bytes(8)),
    "an unknown type": header({"a": ENTRY | {"dtype": "PICKLE"}}, bytes(8)),
    "other tensors": header({"../../etc/passwd": ENTRY}, bytes(8)),
    "a name that writes on the screen": header({"\x1b[2Jgone": ENTRY}, bytes(8)),
    "a zip": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_none_are_refused(case, folder):
    (folder / "model.safetensors").write_bytes(WEIGHTS[case])
    with pytest.raises(UserError) as error:
        open_model(folder)
    assert str(folder) in str(error.value)
    assert "\x1b" not in str(error.value)
    assert str(error.value).count("\n") <= 1


def point_outside(folder):
    shutil.move(folder / "part-0.safetensors", folder.parent / "part-0.safetensors")


INDICES = {
    "a path up": ("../part-0.safetensors", point_outside),
    "an absolute path": ("/etc/passwd", None),
    "a folder": ("a/part-0.safetensors", None),
    "a pickle": ("part-0.bin", None),
    "a hidden file": (".part-0.safetensors", None),
    "a number": (7, None),
    "a file that is not there": ("part-7.safetensors", None),
    "the other file": ("part-1.safetensors", None),
    "a zero byte": ("part-0\0.safetensors", None),
}


@pytest.mark.parametrize("case", INDICES)
def test_an_index_names_files_beside_it_alone(case, sharded):
    name, prepare = INDICES[case]
    if prepare:
        prepare(sharded)
    index = sharded / "model.safetensors.index.json"
    where = json.loads(index.read_text())["weight_map"]
    first = next(each for each, file in where.items() if file == "part-0.safetensors")
    index.write_text(json.dumps({"weight_map": where | {first: name}}))
    with pytest.raises(UserError, match=r"sharded"):
        open_model(sharded)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{", "[" * 100_000])
def test_an_index_that_is_none_is_refused(content, sharded):
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json"):
        open_model(sharded)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused(name, folder, tmp_path):
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(UserError, match="is a link, which could lead anywhere"):
        load_trained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_pipe_or_a_folder_in_place_of_a_file_makes_nobody_wait(name, folder):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UserError):
        load_trained(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(UserError):
        load_trained(folder)


def test_the_links_of_the_hub_s_cache_are_followed(folder, tmp_path):
    """snapshots/<revision>/<file> -> ../../blobs/<hash>"""
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "abc", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert load_trained(snapshot).tokenizer.vocab_size == 61


def test_a_model_larger_than_its_file_takes_no_memory(folder):
    """Sizes are only claims until the tensors are there."""
    stored = json.loads((folder / "config.json").read_text())
    huge = {"hidden_size": 2**20, "intermediate_size": 2**22, "num_hidden_layers": 60, "vocab_size": 2**27}
    (folder / "config.json").write_text(json.dumps(stored | huge))
    with pytest.raises(UserError, match="the model it is said to be has"):
        load_trained(folder)


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path):
    from minigpt.data.hf_files import to_huggingface
    from minigpt.data.tokenizers import ByteTokenizer

    (folder / "tokenizer.json").write_text(json.dumps(to_huggingface(ByteTokenizer())))
    with pytest.raises(UserError, match="256 tokens, the model 61: not its tokenizer"):
        import_(ImportConfig(source=str(folder), out=str(tmp_path / "out")))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        import_(ImportConfig(source=str(folder), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_missing_or_further_tensor_is_named_and_nothing_is_written(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    whole = load_file(folder / "model.safetensors")
    changed = {
        "model.norm.weight is missing": {k: v for k, v in whole.items() if k != "model.norm.weight"},
        "model.layers.0.mlp.lora_A.weight has no place": whole | {"model.layers.0.mlp.lora_A.weight": torch.ones(2)},
        r"model.norm.weight is \[16\]": whole | {"model.norm.weight": torch.ones(16)},
        "packed or of whole numbers": whole | {"model.norm.weight": torch.ones(32, dtype=torch.int8)},
        "lm_head.weight is missing": {k: v for k, v in whole.items() if k != "lm_head.weight"},
    }
    for reason, tensors in changed.items():
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(UserError, match=reason):
            import_(ImportConfig(source=str(folder), out=str(tmp_path / "out")))
        assert not (tmp_path / "out").exists()


STRANGE = [None, True, False, 0, 1, -1, 3, 2**31, 10**30, 0.5, -0.0, 1e300, float("inf"), float("nan"), "", "silu",
           "\x1b[31m", [], [1], ["full_attention"] * 3, {}, {"rope_theta": 0}, {"a": {"b": []}}]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_any_value_at_any_key_gives_a_model_or_a_clear_error(name, theirs):
    rng = random.Random(name)
    stored = json.loads((theirs(name)[1] / "config.json").read_text())
    keys = [*stored, *FAMILIES[name].aliases, "rope_scaling", "layer_types", "sliding_window", "architectures"]
    for _ in range(250):
        content = stored | {rng.choice(keys): rng.choice(STRANGE) for _ in range(rng.choice((1, 1, 2, 3)))}
        try:
            spec = spec_from_config(content, family_of(content, "config.json"), "config.json")
            if spec.n_layer < 100 and spec.d_model < 2**12 and spec.n_head < 2**12:
                GPT.on_meta(spec)
        except UserError as error:
            assert str(error).count("\n") <= 1, content  # noqa: PT017
            assert "\x1b" not in str(error), content  # noqa: PT017


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_flipped_bit_gives_a_model_or_a_clear_error(file, folder):
    rng, content = random.Random(file), (folder / file).read_bytes()
    end = 4000 if file == "model.safetensors" else len(content)  # its header; numbers may be any
    for _ in range(60):
        flipped = bytearray(content)
        flipped[rng.randrange(end)] ^= 1 << rng.randrange(8)
        (folder / file).write_bytes(flipped)
        try:
            opened = open_model(folder)
            opened.checked_tokenizer()
        except UserError as error:
            assert str(error).count("\n") <= 2  # noqa: PT017


def test_a_flipped_bit_of_a_torch_file_gives_a_model_or_a_clear_error(tmp_path):
    from tests.exchange.nanogpt import SIZES
    from tests.exchange.test_torch_checkpoints import checkpoint, write

    file = write(tmp_path / "ckpt.pt", checkpoint(SIZES))
    rng, content = random.Random(5), file.read_bytes()
    pickled = content.index(b"data.pkl")
    places = [*range(pickled, pickled + 6000), *range(len(content) - 4000, len(content))]
    for _ in range(200):
        flipped = bytearray(content)
        flipped[rng.choice(places)] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        try:
            opened = open_model(file)
            for name in list(opened.tensors.forms())[:2]:
                opened.tensors.read(name)
        except UserError as error:
            assert str(error).count("\n") <= 1  # noqa: PT017
