"""nanoGPT's ckpt.pt and fine-tuned .pt files: read without trusting them, the same logits, nothing guessed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import UserError
from minigpt.exchange.config import ImportConfig
from minigpt.exchange.importing import import_
from minigpt.exchange.opened import open_model
from minigpt.exchange.trained import load_trained
from minigpt.model import GPT
from minigpt.schema import plain
from minigpt.testing import make_spec
from tests.exchange.nanogpt import SIZES, logits, state_dict

CHARACTERS = "".join(chr(point) for point in range(33, 33 + 61))
TOKENS = torch.randint(0, 61, (2, 24), generator=torch.Generator().manual_seed(1))


def write_meta(file: Path) -> None:
    itos = dict(enumerate(CHARACTERS))
    content = {"vocab_size": 61, "itos": itos, "stoi": {c: i for i, c in itos.items()}}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content))


def write(file: Path, content) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    write_meta(file.with_name("meta.pkl"))
    return file


def checkpoint(sizes: dict, **more) -> dict:
    """As nanoGPT's train.py saves it, compiled."""
    model = state_dict(sizes, "_orig_mod.")
    optimizer = {"state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}
    config = {"dataset": "letters", "batch_size": 12, "learning_rate": 6e-4, "compile": True, "n_layer": 2}
    figures = {"iter_num": 250, "best_val_loss": torch.tensor(1.25)}
    return {"model": model, "optimizer": optimizer, "model_args": sizes, "config": config} | figures | more


def same(path: Path, state: dict, sizes: dict, approximate: str = "none") -> None:
    with torch.no_grad():
        expected = logits(state, sizes, TOKENS, approximate)
        torch.testing.assert_close(load_trained(path).model(TOKENS).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt_s_checkpoint_computes_what_it_did(bias, tmp_path):
    sizes = SIZES | {"bias": bias}
    file = write(tmp_path / "out" / "ckpt.pt", checkpoint(sizes))
    same(file, state_dict(sizes), sizes)
    trained = load_trained(file.parent)  # its out_dir
    assert trained.meta == {"step": 250, "val_loss": 1.25}
    assert trained.tokenizer.to_json() == CharTokenizer(CHARACTERS).to_json()


def test_it_becomes_a_checkpoint_of_ours(tmp_path):
    file = write(tmp_path / "out" / "ckpt.pt", checkpoint(SIZES))
    import_(ImportConfig(source=str(file), out=str(tmp_path / "ours")))
    same(tmp_path / "ours", state_dict(SIZES), SIZES)
    assert load_trained(tmp_path / "ours").meta["step"] == 250


def test_the_vocabulary_is_found_in_the_data_folder_and_nowhere_else(tmp_path):
    file = write(tmp_path / "out" / "ckpt.pt", checkpoint(SIZES))
    file.with_name("meta.pkl").rename(tmp_path / "meta.pkl")
    with pytest.raises(UserError, match=r"which tokenizer\? 61 tokens are not GPT-2's. Put the dataset's meta.pkl"):
        load_trained(file)
    write_meta(tmp_path / "data" / "letters" / "meta.pkl")
    assert load_trained(file).tokenizer.vocab_size == 61
    outside = checkpoint(SIZES, config={"dataset": "../letters"})
    with pytest.raises(UserError, match="which tokenizer"):
        write(file, outside).with_name("meta.pkl").unlink() or load_trained(file)


def test_a_file_that_names_its_tokenizer_can_be_given_one(tmp_path):
    file = write(tmp_path / "ckpt.pt", checkpoint(SIZES))
    file.with_name("meta.pkl").rename(tmp_path / "letters.pkl")
    options = {"source": str(file), "out": str(tmp_path / "ours")}
    import_(ImportConfig(**options, tokenizer=str(tmp_path / "letters.pkl")))
    assert load_trained(tmp_path / "ours").tokenizer.vocab_size == 61
    with pytest.raises(UserError, match="is there already"):
        import_(ImportConfig(**options))


def test_mingpt_and_files_like_it(tmp_path):
    """A state dict alone, the run's config.json beside it; a head of its own, and GELU by tanh."""
    sizes = SIZES | {"bias": True}
    state = state_dict(sizes, tied=False)
    masks = {f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, 24, 24).tril() for layer in range(2)}
    file = write(tmp_path / "model.pt", state | masks)
    drops = dict.fromkeys(("embd_pdrop", "resid_pdrop", "attn_pdrop"), 0.1)
    stored = {key: sizes[key] for key in ("n_layer", "n_head", "n_embd", "vocab_size", "block_size")} | drops
    file.with_name("config.json").write_text(json.dumps({"model": {"model_type": None} | stored, "system": {}}))
    same(file, state, sizes, "tanh")


@pytest.mark.parametrize("under", ["model_state_dict", "state_dict", "model"])
@pytest.mark.parametrize("sizes_under", ["config", "model_config", "args", "hyperparameters"])
def test_fine_tuned_files_say_their_sizes_under_several_names(under, sizes_under, tmp_path):
    """Of the sizes only the number of heads cannot be seen from the tensors."""
    given = {"n_head": 4, "learning_rate": 1e-5}
    content = {under: state_dict(SIZES, "module."), sizes_under: given, "epoch": 3, "loss": 0.5}
    same(write(tmp_path / "tuned.pt", content), state_dict(SIZES), SIZES)


def test_a_fine_tuned_model_of_transformers_is_read_by_its_family(theirs, tmp_path):
    from tests.exchange.families import tokens

    model, folder = theirs("llama")
    content = {"model_state_dict": model.state_dict(), "config": json.loads((folder / "config.json").read_text())}
    ours = load_trained(write(tmp_path / "tuned.pt", content)).model
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens()).logits, model(tokens()).logits, atol=1e-5, rtol=1e-5)


def test_a_state_dict_of_ours_is_read_by_what_the_model_is(tmp_path):
    model = GPT.create(make_spec(vocab_size=61, softmax="consmax", tie_embeddings=False, block_size=24)).eval()
    content = {"model": model.state_dict(), "spec": plain(model.spec)}
    file = write(tmp_path / "tuned.pt", content)
    with torch.no_grad():
        assert torch.equal(load_trained(file).model(TOKENS).logits, model(TOKENS).logits)
    content["model"].pop("head.linear.weight")
    with pytest.raises(UserError, match=r"head.linear.weight: it holds nothing, the model \(61, 32\)"):
        open_model(write(file, content))


def test_numbers_in_another_order_or_format_are_read_as_they_are_meant(tmp_path):
    state = state_dict(SIZES)
    turned = {name: t.T.contiguous().T if t.ndim == 2 else t for name, t in state.items()}
    same(write(tmp_path / "ckpt.pt", checkpoint(SIZES) | {"model": turned}), state, SIZES)
    half = {name: t.bfloat16() for name, t in state.items()}
    file = write(tmp_path / "half.pt", checkpoint(SIZES) | {"model": half})
    same(file, {name: t.float() for name, t in half.items()}, SIZES)
    import_(ImportConfig(source=str(file), out=str(tmp_path / "ours")))
    assert open_model(tmp_path / "ours").tensors.forms()["final_norm.gain"].dtype == torch.bfloat16


REFUSED = {
    "a fork's trick": ({"model_args": SIZES | {"rotary": True}}, "rotary: not a key of nanogpt"),
    "no heads said": ({"model_args": {"n_layer": 2}, "config": {}}, "how many heads"),
    "too many heads": ({"model_args": SIZES | {"n_head": 5}}, "do not divide"),
    "layers it has not": ({"model_args": SIZES | {"n_layer": 3}}, r"transformer.h.2.* is missing"),
    "layers left over": ({"model_args": SIZES | {"n_layer": 1}}, r"transformer.h.1.* has no place"),
    "another width": ({"model_args": SIZES | {"n_embd": 64}}, "the model it is said to be has"),
    "a head that is another": (
        {"model": state_dict(SIZES) | {"lm_head.weight": torch.zeros(61, 32)}},
        "lm_head.weight is not the embedding",
    ),
    "a view with gaps": (
        {"model": state_dict(SIZES) | {"transformer.ln_f.weight": torch.ones(64)[::2]}},
        "view with gaps",
    ),
    "numbers that stand for many": (
        {"model": state_dict(SIZES) | {"transformer.ln_f.weight": torch.ones(1).expand(32)}},
        "view with gaps",
    ),
    "whole numbers": ({"model": state_dict(SIZES) | {"transformer.ln_f.weight": torch.ones(32).int()}}, "packed"),
    "two of one name": ({"model": state_dict(SIZES) | state_dict(SIZES, "module.")}, "two tensors of one name"),
    "no weights": ({"model": {"epoch": 3}}, "no state dict in it"),
    "a text among weights": ({"model": state_dict(SIZES) | {"note": "hello"}}, "no state dict in it"),
    "an adapter alone": ({"model": {"lora_A": torch.zeros(2, 2)}}, "not like nanoGPT's"),
    "sizes as text": ({"model_args": SIZES | {"n_head": "4"}}, "expected a whole number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_model_is_refused_with_the_reason(case, tmp_path):
    change, reason = REFUSED[case]
    file = write(tmp_path / "ckpt.pt", checkpoint(SIZES) | change)
    with pytest.raises(UserError, match=reason) as error:
        open_model(file)
    assert str(error.value).count("\n") <= 1
    assert str(file) in str(error.value)


class Payload:
    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


def test_nothing_in_a_file_runs(tmp_path):
    ran = tmp_path / "ran"
    for content in (Payload(ran), checkpoint(SIZES, extra=Payload(ran)), checkpoint(SIZES, model_args=Payload(ran))):
        with pytest.raises(UserError, match="cannot be read"):
            open_model(write(tmp_path / "ckpt.pt", content))
    for content in (b"", b"PK\x03\x04", pickle.dumps(Payload(ran)), b"\x80\x04" + b"(" * 100_000, b"\0" * 4096):
        (tmp_path / "ckpt.pt").write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            open_model(tmp_path / "ckpt.pt")
    write(tmp_path / "ckpt.pt", checkpoint(SIZES))
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(Payload(ran)))
    with pytest.raises(UserError, match="nothing in it was run"):
        load_trained(tmp_path / "ckpt.pt")
    assert not ran.exists()
