"""``minigpt export``: a trained model, in the form another project opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minigpt.errors import UserError
from minigpt.exchange.config import ExportConfig
from minigpt.exchange.families import FAMILIES
from minigpt.exchange.gguf_export import export_gguf
from minigpt.exchange.hf_folder import SHARD_MIB, write_folder
from minigpt.exchange.huggingface import choose_family
from minigpt.exchange.onnx_export import export_onnx
from minigpt.exchange.opened import Opened, open_model
from minigpt.exchange.tensor_map import Exported
from minigpt.exchange.trained import load_trained
from minigpt.screen import say


def export(config: ExportConfig) -> None:
    """Write what the options ask for, and say what came of it."""
    for line in FORMATS[config.format](config):
        say(line)


def _hf(config: ExportConfig) -> list[str]:
    opened = open_model(str(config.checkpoint), plugins=config.plugins)
    return export_hf(opened, Path(str(config.out)), family=config.family, shard_mib=config.shard_mib or SHARD_MIB)


def _gguf(config: ExportConfig) -> list[str]:
    trained = load_trained(str(config.checkpoint), plugins=config.plugins)
    return export_gguf(trained, Path(str(config.out)), config.precision or "f32")


def _onnx(config: ExportConfig) -> list[str]:
    trained = load_trained(str(config.checkpoint), plugins=config.plugins)
    return export_onnx(trained, Path(str(config.out)))


FORMATS: dict[str, Callable[[ExportConfig], list[str]]] = {"hf": _hf, "gguf": _gguf, "onnx": _onnx}
"""format -> what writes it; returns what a person should know of the result, line by line."""


def export_hf(opened: Opened, out: Path, *, family: str | None = None, shard_mib: int = SHARD_MIB) -> list[str]:
    """Write a folder that transformers opens, with the tensors as they are, bit by bit.

    Raises UserError for a model that no family, or not this one, can hold, naming the difference.
    """
    try:
        chosen, keys = choose_family(opened.plan, family, hint=opened.meta.get("family") or opened.origin)
    except UserError as error:
        raise UserError(f"{opened.place}: {error}") from None
    tokenizer = opened.checked_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token, "eos_token_id": tokenizer.eot_token, "pad_token_id": None}
    exported = Exported(opened.tensors, chosen, opened.plan)
    config = {
        "model_type": chosen.model_type,
        "architectures": [chosen.architecture],
        **keys,
        **FAMILIES[chosen.model_type].extra,
        **ends,
        "use_cache": True,
        "dtype": _dtype(exported),
    }
    files = write_folder(out, config, exported, tokenizer, shard_mib=shard_mib)
    size = sum(file.stat().st_size for file in files)
    return [f"{out}: {chosen.architecture}, {opened.plan.parameter_count():,} parameters, {size / 1e6:.1f} MB"]


def _dtype(exported: Exported) -> str:
    """The number format most of the tensors have, in words of theirs."""
    names = [str(form.dtype).removeprefix("torch.") for form in exported.forms().values()]
    return max(dict.fromkeys(names), key=names.count)
