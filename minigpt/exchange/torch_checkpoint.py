"""Trained models in files of ``torch.save``: nanoGPT's ckpt.pt, minGPT's model.pt, and fine-tuned ones like them.

Accepted is a state dict with the names of nanoGPT or minGPT, of a Hugging Face family, or of a model of ours; alone or
in a dict, under one of :data:`STATES`. Its sizes stand beside it under one of :data:`SIZES`, or in a config.json in the
same folder: keys of nanoGPT or minGPT (what follows from the tensors may be missing, n_head may not), a config.json of
the family, or a model.json of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError, shown
from minigpt.exchange.families import FAMILIES
from minigpt.exchange.families.nanogpt import MINGPT, NANOGPT, TRAINING_ALONE
from minigpt.exchange.family import Family
from minigpt.exchange.heads import TensorHead, read_torch
from minigpt.exchange.torch_files import number, plain_name
from minigpt.files import read_json
from minigpt.model import ModelSpec
from minigpt.schema import typed

STATES = ("model", "model_state_dict", "state_dict", "weights")
SIZES = ("model_args", "model_config", "config", "args", "hyperparameters", "spec")
MINGPT_ALONE = ("embd_pdrop", "resid_pdrop", "attn_pdrop")
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
NANOGPT_FILE, META, GPT2_TOKENS = "ckpt.pt", "meta.pkl", 50257

_SIZE_KEYS = ("n_head", "n_layer", "n_embd", "model_type", "d_model")


def find_file(path: Path) -> Path | None:
    """The file that ``path``, a file or nanoGPT's out_dir, means; None for neither."""
    if path.is_file() and path.suffix in SUFFIXES:
        return path
    inside = path / NANOGPT_FILE
    return inside if inside.is_file() and not (path / "meta.json").is_file() else None


def read(file: Path) -> tuple[dict[str, TensorHead], dict[str, Any], dict[str, Any]]:
    """(tensors, sizes, the whole content) of a file. Raises UserError for one that is not a model as said above."""
    content = read_torch(file)
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds a {type(content).__name__}, expected the state dict of a model")
    state = next((content[key] for key in STATES if isinstance(content.get(key), dict)), content)
    tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, TensorHead)}
    if len(tensors) < max(len(state) if state is not content else 0, 1):
        raise UserError(
            f"{file}: no state dict in it, alone or under {', '.join(STATES)}.\n"
            f"  It holds: {', '.join(shown(key, 30) for key in list(content)[:12])}"
        )
    return tensors, _sizes(content, file), content


def _sizes(content: Mapping[Any, Any], file: Path) -> dict[str, Any]:
    for key in SIZES:
        found = content.get(key)
        if isinstance(found, dict) and any(each in found for each in _SIZE_KEYS):
            return {str(name): value for name, value in found.items()}
    beside = file.with_name("config.json")
    stored = read_json(beside, links=False) if beside.is_file() else {}
    inner = stored.get("model", stored) if isinstance(stored, dict) else {}  # minGPT's is one of the whole run
    return inner if isinstance(inner, dict) else {}


def family_of(sizes: Mapping[str, Any]) -> Family | None:
    """The table for a file of these sizes; None for a model of ours."""
    if "blocks" in sizes and "d_model" in sizes:
        return None
    if sizes.get("model_type") in FAMILIES and not {*MINGPT_ALONE, "block_size"} <= {*sizes}:
        return FAMILIES[sizes["model_type"]]
    return MINGPT if any(key in sizes for key in MINGPT_ALONE) else NANOGPT


def own_spec(sizes: Mapping[str, Any], where: str) -> ModelSpec:
    """A model of ours, from the content of its model.json."""
    content = {key: value for key, value in sizes.items() if key != "plugins"}
    if not isinstance(content["blocks"], list | tuple) or len(content["blocks"]) != content.get("n_layer"):
        raise UserError(f"{where}: blocks: expected one per layer")
    try:
        return typed(ModelSpec, content)
    except (UserError, OverflowError, RecursionError) as error:
        raise UserError(f"{where}: {error}") from None


def completed(
    sizes: Mapping[str, Any], tensors: Mapping[str, TensorHead], family: Family, file: Path
) -> dict[str, Any]:
    """The sizes of nanoGPT or minGPT, with those that follow from the tensors."""
    known = {key: value for key, value in sizes.items() if key not in TRAINING_ALONE and value is not None}
    heads = {plain_name(name): head for name, head in tensors.items()}
    tables = [heads.get(f"transformer.{name}.weight") for name in ("wte", "wpe")]
    if any(table is None or len(table.shape) != 2 for table in tables):
        raise UserError(
            f"{file}: no tables transformer.wte.weight and transformer.wpe.weight, so it is not like nanoGPT's; and no "
            f"config.json of another family is in it or beside it"
        )
    wte, wpe = tables
    layers = {int(found[1]) for name in heads if (found := re.match(r"transformer\.h\.(\d{1,4})\.", name))}
    head = heads.get("lm_head.weight")
    assert wte is not None and wpe is not None  # noqa: PT018 (for the type checker)
    follow = {
        "vocab_size": wte.shape[0],
        "n_embd": wte.shape[1],
        "block_size": wpe.shape[0],
        "n_layer": len(layers),
        "tie_word_embeddings": head is None or head.storage == wte.storage or family is NANOGPT,
    }
    if family is NANOGPT:
        follow["bias"] = "transformer.ln_f.bias" in heads
    if "n_head" not in known:
        raise UserError(
            f"{file}: how many heads? n_head is neither in it (under {', '.join(SIZES)}) nor in a config.json beside it"
        )
    return follow | known


def reached(content: Mapping[Any, Any]) -> dict[str, Any]:
    """What a checkpoint says of its training, in our words."""
    said = {}
    for ours, names in (("step", ("iter_num", "step", "iteration")), ("val_loss", ("best_val_loss", "val_loss"))):
        values = [number(content[name]) for name in names if name in content]
        if values and values[0] is not None:
            said[ours] = int(values[0]) if ours == "step" and abs(values[0]) < 2**53 else values[0]
    return said


def tokenizer_reader(file: Path, content: Mapping[Any, Any], vocab_size: int) -> Callable[[], Tokenizer]:
    """What reads the tokenizer: a meta.pkl beside the file or in nanoGPT's data folder, else GPT-2's byte pairs."""

    def read_it() -> Tokenizer:
        for place in _metas(file, content):
            if place.is_file():
                from minigpt.data.pickles import read_nanogpt_meta

                return read_nanogpt_meta(place)
        if file.with_name("tokenizer.json").is_file():
            from minigpt.data.hf_files import read_tokenizer

            return read_tokenizer(file.with_name("tokenizer.json"))
        if vocab_size < GPT2_TOKENS:
            raise UserError(
                f"{file}: which tokenizer? {vocab_size} tokens are not GPT-2's. Put the dataset's {META} beside it"
            )
        from minigpt.data.tiktoken_bpe import load_encoding

        try:
            return load_encoding("gpt2")
        except UserError as error:
            raise UserError(
                f"{file}: no {META} beside it, so its tokens are GPT-2's, which are not here.\n"
                f"  {str(error).splitlines()[0]} Or put a tokenizer.json of GPT-2 beside it"
            ) from None

    return read_it


def _metas(file: Path, content: Mapping[Any, Any]) -> Collection[Path]:
    trained = content.get("config")
    dataset = trained.get("dataset") if isinstance(trained, dict) else None
    places = [file.with_name(META)]
    if isinstance(dataset, str) and re.fullmatch(r"\w[\w.-]{0,100}", dataset):  # a name, no path
        places += [file.parent.parent / "data" / dataset / META, Path("data") / dataset / META]
    return places
