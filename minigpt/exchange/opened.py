"""A trained model in files, whoever wrote them, with none of its tensors read yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from minigpt.checkpoint_folder import find_checkpoint, read_json, read_meta, verified
from minigpt.data import tokenizers
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.exchange import hf_folder, hub, torch_checkpoint
from minigpt.exchange.families.nanogpt import MINGPT, NANOGPT
from minigpt.exchange.huggingface import family_of, spec_from_config
from minigpt.exchange.tensor_files import SafetensorsFiles, Tensors
from minigpt.exchange.tensor_map import Converted, Same
from minigpt.exchange.torch_files import TorchTensors
from minigpt.model import GPT, ModelSpec, read_spec
from minigpt.model.checkpoint import SPEC, TOKENIZER, WEIGHTS
from minigpt.plugins import load_plugins

READS = "a Hugging Face folder (config.json, *.safetensors), nanoGPT's ckpt.pt or its folder, gpt2, hf:<owner>/<name>"
"""Other projects' models, in words."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """plan: the model on meta. tensors: under the names of its parameters. tokenizer: reads it, or raises UserError.
    meta: what is known of its training. place: the folder or file. origin: whose files they are: minigpt, gpt2 ..."""

    plan: GPT
    tensors: Tensors
    tokenizer: Callable[[], Tokenizer]
    meta: dict[str, Any]
    place: Path
    origin: str

    @property
    def spec(self) -> ModelSpec:
        return self.plan.spec

    def checked_tokenizer(self) -> Tokenizer:
        """The tokenizer; raises UserError for one with more tokens than the model has."""
        tokenizer = self.tokenizer()
        if tokenizer.vocab_size > self.spec.vocab_size:
            raise UserError(
                f"{self.place}: its tokenizer has {tokenizer.vocab_size} tokens, the model {self.spec.vocab_size}: not "
                f"its tokenizer"
            )
        return tokenizer

    def build(self, device: torch.device | str = "cpu") -> GPT:
        """The model in memory, in eval mode; every tensor is read once and copied to its place."""
        try:
            model = GPT.create(self.spec, device, initialise=False)
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(self.tensors.read(name))
        except (RuntimeError, MemoryError) as error:
            raise UserError(f"{self.place}: this model cannot be built on {device} ({error})") from None
        return model.eval()


def open_model(
    path: Path | str,
    *,
    plugins: Sequence[str] = (),
    block_size: int | None = None,
    ignore: Collection[str] = (),
) -> Opened:
    """Open whatever trained model ``path`` means.

    block_size: another project's model with a shorter context. ignore: keys of its config.json to pass over.
    Raises UserError when there is none, it is damaged, or our parts cannot express it.
    """
    load_plugins(plugins)
    foreign = open_foreign(path, block_size=block_size, ignore=ignore)
    return _ours(own_folder(path)) if foreign is None else foreign


def own_folder(path: Path | str) -> Path:
    """The folder of the checkpoint of ours that ``path`` means; raises UserError naming all that it could have been."""
    try:
        return find_checkpoint(path)
    except UserError as error:
        raise UserError(f"{error}\n  Also read here: {READS}") from None


def open_foreign(path: Path | str, *, block_size: int | None = None, ignore: Collection[str] = ()) -> Opened | None:
    """Another project's model; None where ``path`` holds none, and may be one of ours."""
    path = hub.fetched(str(path)) if hub.is_name(str(path)) else Path(path)
    file = torch_checkpoint.find_file(path)
    if file is not None:
        return _torch_file(file, block_size, ignore)
    if (path / hf_folder.CONFIG).is_file() and not (path / "meta.json").is_file():
        return _hugging_face(path, block_size, ignore)
    return None


def _ours(folder: Path) -> Opened:
    verified(folder, (WEIGHTS, SPEC, TOKENIZER))
    plan = GPT.on_meta(read_spec(folder))
    tensors = Same(SafetensorsFiles(folder / WEIGHTS), plan)
    path = folder / TOKENIZER
    return Opened(
        plan, tensors, lambda: tokenizers.from_json(read_json(folder, TOKENIZER), str(path)), read_meta(folder),
        folder, "minigpt",
    )  # fmt: skip


def _hugging_face(folder: Path, block_size: int | None, ignore: Collection[str]) -> Opened:
    where = str(folder / hf_folder.CONFIG)
    config = hf_folder.read_object(folder, hf_folder.CONFIG)
    family = family_of(config, where)
    spec = spec_from_config(config, family, where, block_size=block_size, ignore=ignore)
    plan = _planned(spec, where)
    tensors = Converted(hf_folder.open_tensors(folder), family, plan, cut=block_size is not None)
    return Opened(plan, tensors, lambda: hf_folder.open_tokenizer(folder), {}, folder, family.model_type)


def _torch_file(file: Path, block_size: int | None, ignore: Collection[str]) -> Opened:
    heads, sizes, content = torch_checkpoint.read(file)
    tensors = TorchTensors(file, heads)
    family = torch_checkpoint.family_of(sizes)
    where = str(file)
    if family is None:
        if block_size is not None or ignore:
            raise UserError(f"{file}: is a model of ours; block_size and ignore are for other projects'")
        spec = torch_checkpoint.own_spec(sizes, where)
        plan = _planned(spec, where)
        tensors_here: Tensors = Same(tensors, plan)
    else:
        if family in (NANOGPT, MINGPT):
            sizes = torch_checkpoint.completed(sizes, heads, family, file)
        plan = _planned(spec_from_config(sizes, family, where, block_size=block_size, ignore=ignore), where)
        tensors_here = Converted(tensors, family, plan, cut=block_size is not None)
    origin = "minigpt" if family is None else family.model_type
    tokenizer = torch_checkpoint.tokenizer_reader(file, content, plan.spec.vocab_size)
    return Opened(plan, tensors_here, tokenizer, torch_checkpoint.reached(content), file, origin)


def _planned(spec: ModelSpec, where: str) -> GPT:
    try:
        return GPT.on_meta(spec)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except (RuntimeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: no model can be built of this ({error})") from None
