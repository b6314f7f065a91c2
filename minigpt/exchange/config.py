"""What a person chooses when models come in and go out: the schemas of conf/import.yaml and conf/export.yaml.
Imports no torch."""

from __future__ import annotations

from typing import Literal

from minigpt.errors import UserError
from minigpt.schema import FilePath, PositiveInt, options

FamilyName = Literal[
    "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "olmo2", "phi", "phi3", "gpt_neox"
]


@options
class ImportConfig:
    """A call of ``minigpt import``.

    source: a Hugging Face folder, nanoGPT's ckpt.pt or its folder, or a name: gpt2, hf:<owner>/<name>. out: the
    checkpoint's folder, which is written and must not be there. block_size: a shorter context than the model's (null:
    its own). tokenizer: a tokenizer.json, a meta.pkl, a .tiktoken file or gpt2 (null: what lies beside the weights).
    ignore: keys of its configuration that are no reason to refuse it.
    """

    source: FilePath | None = None
    out: FilePath | None = None
    block_size: PositiveInt | None = None
    tokenizer: FilePath | None = None
    ignore: list[str] = ()  # type: ignore[assignment]

    def __post_init__(self):
        if self.source is None:
            raise UserError("source: which model? Give a folder of Hugging Face's, nanoGPT's ckpt.pt, or source=gpt2")
        if self.out is None:
            raise UserError(f"out: where to? Give a new folder, such as out=out/{_last(self.source)}")


@options
class ExportConfig:
    """A call of ``minigpt export``.

    checkpoint: a run's folder, a checkpoint's, or another project's model. format: hf is a folder that transformers
    opens, gguf a file for llama.cpp, onnx a folder with a graph. out: what is written, and must not be there. family:
    of models it is written as, in hf (null: the first that can hold it). shard_mib: MiB of the largest file, in hf
    (null: 4096). precision: of the matrices, in gguf (null: f32). plugins: modules that register the model's parts.
    """

    checkpoint: FilePath | None = None
    format: Literal["hf", "gguf", "onnx"] = "hf"
    out: FilePath | None = None
    family: FamilyName | None = None
    shard_mib: PositiveInt | None = None
    precision: Literal["f32", "f16", "bf16"] | None = None
    plugins: list[str] = ()  # type: ignore[assignment]

    def __post_init__(self):
        if self.checkpoint is None:
            raise UserError("checkpoint: which one? Give a run's folder, such as checkpoint=out/<run>")
        if self.out is None:
            raise UserError(f"out: where to? Give a new name, such as out=export/{_last(self.checkpoint)}")
        for option, formats in FORMATS_OF.items():
            if getattr(self, option) is not None and self.format not in formats:
                raise UserError(f"{option}: is an option of format={'|'.join(formats)}; {self.format} would ignore it")


FORMATS_OF = {"family": ("hf",), "shard_mib": ("hf",), "precision": ("gguf",)}
"""Option -> the formats that have it; None is not said."""


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or "model"
