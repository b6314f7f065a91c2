"""Checkpoints: what goes in comes out; nothing a crash, a bad disk or a stranger does to the files goes unnoticed."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from minigpt import checkpoint_folder, registry
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.model.checkpoint import find_checkpoint, load_checkpoint, load_weights, verified
from minigpt.testing import make_spec
from tests.model.checkpoints import TOKENIZER, flip_a_byte, logits, rewrite, save

FILES = ("model.safetensors", "model.json", "tokenizer.json")


@pytest.fixture
def model() -> GPT:
    return GPT.create(make_spec()).eval()


@pytest.fixture
def folder(tmp_path, model) -> Path:
    return save(tmp_path / "run" / "checkpoint" / "last", model)


def one_line_or_two(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert len(text.splitlines()) <= 2, text
    return text


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"tie_embeddings": False, "bias": True, "position": "learned", "norm": "layernorm"},
        {"softmax": "consmax", "norm": "dyt", "attention": {"name": "causal", "n_kv_head": 2, "qk_norm": True}},
        {"attention": "linear", "linear": "ternary", "residual": "layerscale", "layout": "parallel"},
    ],
)
def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path, parts):
    model = GPT.create(make_spec(**parts)).eval()
    loaded = load_checkpoint(save(tmp_path / "here", model))
    assert loaded.spec == model.spec
    assert loaded.tokenizer == TOKENIZER
    assert (loaded.meta["step"], loaded.meta["val_loss"]) == (3, 1.5)
    assert not loaded.model.training
    assert torch.equal(logits(loaded.model), logits(model))


def test_tied_weights_are_stored_once_and_stay_tied(folder):
    with safe_open(folder / "model.safetensors", "pt") as stored:
        assert "embedding.weight" in stored.keys()  # noqa: SIM118
        assert "head.weight" not in stored.keys()  # noqa: SIM118
    loaded = load_checkpoint(folder).model
    assert loaded.head.tied_to[0] is loaded.embedding


def test_a_compiled_model_is_saved_under_the_names_of_the_plain_one(tmp_path, model, folder):
    compiled = save(tmp_path / "compiled", torch.compile(model))
    assert (compiled / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    fresh = torch.compile(GPT.create(make_spec(seed=1)).eval())
    load_weights(fresh, compiled)
    assert torch.equal(logits(fresh._orig_mod), logits(model))


def test_the_best_checkpoint_of_a_run_is_taken_else_the_last(tmp_path, model, folder):
    run = tmp_path / "run"
    assert find_checkpoint(run) == folder
    best = save(run / "checkpoint" / "best", model)
    assert find_checkpoint(run) == best
    assert find_checkpoint(run / "checkpoint" / "last") == folder
    assert find_checkpoint(run / "checkpoint") == best


def test_an_extra_file_is_written_and_verified_with_the_rest(tmp_path, model):
    folder = save(tmp_path / "here", model, extra={"state.pt": lambda file: torch.save({"step": 7}, file)})
    (state,) = verified(folder, ["state.pt"])
    assert torch.load(state, weights_only=True) == {"step": 7}
    flip_a_byte(state)
    with pytest.raises(UserError, match=r"state\.pt: is damaged"):
        verified(folder, ["state.pt"])


def test_the_meta_file_tells_each_tensors_role_and_each_files_hash(folder, model):
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["roles"] == model.roles()
    assert set(meta["files"]) == set(FILES)
    assert meta["parameters"] == model.parameter_count()


def test_loading_draws_no_random_number(folder):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_checkpoint(folder)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 64}, "model.d_model: checkpoint has 32, this model 64"),
        ({"n_layer": 3}, "model.n_layer: checkpoint has 2, this model 3"),
        ({"norm": "layernorm"}, "norm.name: checkpoint has rmsnorm, this model layernorm"),
        ({"softmax": "consmax"}, "softmax.name: checkpoint has softmax, this model consmax"),
        ({"attention": {"name": "causal", "window": 4}}, "attention.window: checkpoint has None, this model 4"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_the_key_that_differs(folder, changes, message):
    other = GPT.create(make_spec(**changes))
    before = logits(other)
    with pytest.raises(UserError) as error:
        load_weights(other, folder)
    assert one_line_or_two(error).startswith(message)
    assert torch.equal(logits(other), before)


def test_another_seed_init_or_dropout_is_no_other_architecture(folder, model):
    other = GPT.create(make_spec(seed=9, init="fan_in", dropout=0.1)).eval()
    load_weights(other, folder)
    assert torch.equal(logits(other), logits(model))


def test_tensors_that_do_not_fit_the_described_model_are_refused(folder, model):
    tensors = {name: torch.zeros(3) for name, _ in model.named_parameters()}
    rewrite(folder, "model.safetensors", lambda file: save_file(tensors, file))
    with pytest.raises(UserError, match=r"the file has \[3\], the model of model.json \[") as error:
        load_checkpoint(folder)
    one_line_or_two(error)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(folder, model, dtype):
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tensors["blocks.1.attention.q.weight"] = tensors["blocks.1.attention.q.weight"].to(dtype)
    rewrite(folder, "model.safetensors", lambda file: save_file(tensors, file))
    with pytest.raises(UserError, match=r"q\.weight: the file has \[32, 32\] of \w+, the model of model.json \["):
        load_checkpoint(folder)


def test_a_model_is_pickled_and_copied_with_what_it_is(model):
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert torch.equal(logits(other), logits(model))
        assert other.spec == model.spec
        assert other.head.tied_to[0] is other.embedding


def test_a_missing_tensor_is_named(folder, model):
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tensors.pop("blocks.1.attention.q.weight")
    rewrite(folder, "model.safetensors", lambda file: save_file(tensors, file))
    with pytest.raises(UserError, match=r"blocks\.1\.attention\.q\.weight: the file has no such tensor"):
        load_checkpoint(folder)


def test_a_missing_checkpoint_says_what_is_near(tmp_path, folder):
    with pytest.raises(UserError) as error:
        load_checkpoint(tmp_path / "rnu")
    assert "no such folder" in one_line_or_two(error)
    assert f"Did you mean '{tmp_path / 'run'}'" in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "empty")
    with pytest.raises(UserError, match="is a file"):
        load_checkpoint(folder / "model.json")


@pytest.mark.parametrize("name", [*FILES, "meta.json"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(folder, name, kept):
    file = folder / name
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError) as error:
        load_checkpoint(folder)
    assert name in one_line_or_two(error)
    assert "Take" in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match="is missing") as error:
        load_checkpoint(folder)
    assert name in one_line_or_two(error)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed(folder, name):
    flip_a_byte(folder / name)
    with pytest.raises(UserError, match="hash mismatch") as error:
        load_checkpoint(folder)
    assert name in one_line_or_two(error)


def test_a_checkpoint_replaced_while_it_is_read_is_no_torn_one(folder, monkeypatch):
    other, hashed = GPT.create(make_spec(seed=8)).eval(), checkpoint_folder.sha256_of

    def replacing(file: Path) -> str:
        monkeypatch.setattr(checkpoint_folder, "sha256_of", hashed)
        save(folder, other, meta={"step": 4})
        return hashed(file)

    monkeypatch.setattr(checkpoint_folder, "sha256_of", replacing)
    loaded = load_checkpoint(folder)
    assert loaded.meta["step"] == 4
    assert torch.equal(logits(loaded.model), logits(other))


def test_a_torn_best_points_to_the_last(tmp_path, model, folder):
    best = save(folder.with_name("best"), model)
    flip_a_byte(best / "model.safetensors")
    with pytest.raises(UserError, match=f"Take {folder}"):
        load_checkpoint(tmp_path / "run")


def test_weights_that_are_a_pickle_are_refused_and_never_executed(folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    for write in (lambda f: torch.save({"w": Bomb()}, f), lambda f: f.write_bytes(pickle.dumps(Bomb()))):
        rewrite(folder, "model.safetensors", write)
        with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
            load_checkpoint(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": {"name": "os.system", "_target_": "os.system"}}, "there is no norm named"),
        ({"norm": {"name": "rmsnorm", "_target_": "os.system"}}, "has no option '_target_'"),
        ({"norm": {"name": "../../evil"}}, "there is no norm named"),
    ],
)
def test_an_import_path_in_place_of_a_name_is_refused(folder, change, message):
    spec = json.loads((folder / "model.json").read_text())
    spec["default"] |= change
    rewrite(folder, "model.json", lambda file: file.write_text(json.dumps(spec)))
    with pytest.raises(UserError, match=message) as error:
        load_checkpoint(folder)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "os.system"}, "unknown key '_target_'"),
        ({"n_layer": 3}, "n_layer is 3, but 2 blocks are described"),
        ({"n_layer": 10**9}, "2 blocks are described"),
        ({"d_model": 10**15}, "d_model: 1000000000000000 is too large"),
        ({"d_model": 4096}, "the file has"),
        ({"d_model": "32; import os"}, "expected a whole number"),
        ({"default": []}, "expected a group"),
    ],
)
def test_a_description_that_is_wrong_is_refused_before_memory_is_taken(folder, change, message):
    spec = json.loads((folder / "model.json").read_text()) | change
    rewrite(folder, "model.json", lambda file: file.write_text(json.dumps(spec)))
    with pytest.raises(UserError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["[]", "3", "null", "[" * 100_000, '{"format": "1"}', '{"format": 1, "files": []}'])
def test_a_meta_file_that_is_something_else_is_refused(folder, text):
    (folder / "meta.json").write_text(text)
    with pytest.raises(UserError, match=r"meta\.json"):
        load_checkpoint(folder)


def test_a_later_format_asks_for_an_update(folder):
    meta = json.loads((folder / "meta.json").read_text()) | {"format": 99}
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="Update minigpt"):
        load_checkpoint(folder)


PLUGIN = '''
from pathlib import Path
from minigpt.components.norm.rmsnorm import RMSNorm
from minigpt.registry import register
from minigpt.schema import options

Path(__file__).with_suffix(".imported").touch()


@register("norm", "{name}")
class PluginNorm(RMSNorm):
    """A norm from outside."""

    @options
    class Config(RMSNorm.Config):
        pass
'''


def test_a_plugin_is_imported_only_when_the_caller_asks(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outside_norm.py").write_text(PLUGIN.format(name="outside_norm"))
    script = (
        "from tests.model.test_checkpoint import *; from minigpt.plugins import load_plugins; from pathlib import Path;"
        "load_plugins(['outside_norm']); save(Path('here'), GPT.create(make_spec(norm='outside_norm')),"
        "plugins=['outside_norm'])"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, check=True)
    (tmp_path / "outside_norm.imported").unlink()
    with pytest.raises(UserError, match=r"needs the plugin outside_norm.*plugins=\[outside_norm\]"):
        load_checkpoint(tmp_path / "here")
    assert not (tmp_path / "outside_norm.imported").exists()
    with registry.forgotten_afterwards():
        loaded = load_checkpoint(tmp_path / "here", plugins=["outside_norm"])
        assert loaded.spec.default.spec("norm").name == "outside_norm"


def test_a_folder_that_is_no_checkpoint_is_not_overwritten(tmp_path, model):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("all my work")
    with pytest.raises(UserError, match="not overwritten"):
        save(tmp_path / "thesis", model)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "all my work"
