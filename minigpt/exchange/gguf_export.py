"""A trained model as one GGUF file, for llama.cpp and what is built on it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from minigpt.errors import UserError
from minigpt.exchange.gguf_shapes import Architecture, architecture_of, eps_of
from minigpt.exchange.gguf_vocabulary import Vocabulary, vocabulary
from minigpt.exchange.trained import TrainedModel
from minigpt.files import plainly, replacing
from minigpt.model import GPT
from minigpt.schema import plain

Precision = Literal["f32", "f16", "bf16"]
"""Numbers of the matrices; vectors are always f32."""

_FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32}  # llama.cpp's numbers
_LARGEST_F16 = 65504.0


def export_gguf(trained: TrainedModel, out: Path, precision: Precision = "f32") -> list[str]:
    """Write ``out``, a file that is not there yet; whole or not at all. Returns what a person should know of it.

    The configuration, what is known of the training and the tokenizer travel in keys ``minigpt.*``. Rows of a padded
    vocabulary, for which there is no token, are left out, so that llama.cpp never picks one.
    Raises UserError for a model that llama.cpp cannot compute, saying why, and when the package gguf is missing.
    """
    gguf = _package()
    if out.exists() or out.is_symlink():
        raise UserError(f"out: {out} is there already and is not overwritten. Choose another name")
    model, words = trained.model, vocabulary(trained.tokenizer)
    architecture = architecture_of(model)
    tensors = dict(_tensors(model, architecture, words.size))
    if precision == "f16":
        _refuse_overflow(tensors)
    with plainly(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with plainly(out), replacing(out) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture.name)
        _write_model(writer, model, architecture, precision)
        _write_vocabulary(writer, words)
        _write_origin(writer, trained)
        for name, tensor in tensors.items():
            _write_tensor(gguf, writer, name, tensor, precision)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        _verify(gguf, temporary, tensors, precision)
    size = f"{model.parameter_count():,} parameters, {out.stat().st_size / 1e6:.1f} MB"
    return [f"{out}: {architecture.name}, {precision}, {size}", *_notes(model, words)]


def _package() -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise UserError("format=gguf needs the package gguf: pip install 'minigpt[export]'") from None


def _write_model(writer: Any, model: GPT, architecture: Architecture, precision: str) -> None:
    spec, block = model.spec, model.blocks[0]
    writer.add_context_length(spec.block_size)
    writer.add_embedding_length(spec.d_model)
    writer.add_block_count(spec.n_layer)
    writer.add_feed_forward_length(block.mlp.hidden)
    writer.add_head_count(spec.n_head)
    writer.add_head_count_kv(block.attention.n_kv_head)
    writer.add_file_type(_FILE_TYPES[precision])
    if "rmsnorm" in architecture.parts["norm"]:
        writer.add_layer_norm_rms_eps(eps_of(model))
    else:
        writer.add_layer_norm_eps(eps_of(model))
    if not architecture.square:
        writer.add_key_length(spec.head_dim)
        writer.add_value_length(spec.head_dim)
    position = block.attention.position
    if "rope" in architecture.parts["position"]:
        writer.add_rope_freq_base(position.theta)
        writer.add_rope_dimension_count(position.turned)
    if "alibi" in architecture.parts["position"]:
        writer.add_max_alibi_bias(8.0)
    if "parallel" in architecture.parts["layout"]:
        writer.add_parallel_residual(True)


def _write_vocabulary(writer: Any, words: Vocabulary) -> None:
    writer.add_vocab_size(words.size)
    writer.add_tokenizer_model(words.model)
    if words.model == "none":
        return
    writer.add_token_list(list(words.tokens))
    writer.add_token_types(list(words.types))
    writer.add_add_bos_token(words.begins)
    if words.model == "gpt2":
        writer.add_tokenizer_pre(words.pre)
        writer.add_token_merges(list(words.merges))
        writer.add_bos_token_id(words.eot if words.bos is None else words.bos)
        writer.add_eos_token_id(words.eot)


def _write_origin(writer: Any, trained: TrainedModel) -> None:
    """What a model card would say, and what it takes to go back to our own words."""
    known = {key: value for key, value in trained.meta.items() if key not in ("files", "roles")}
    writer.add_name(trained.folder.resolve().name)
    writer.add_string("minigpt.model", json.dumps(plain(trained.model.spec)))
    writer.add_string("minigpt.meta", json.dumps(known))
    if trained.tokenizer.chat_template is not None:
        writer.add_chat_template(trained.tokenizer.chat_template)
    writer.add_string("minigpt.tokenizer", json.dumps(trained.tokenizer.to_json()))


def _write_tensor(gguf: Any, writer: Any, name: str, tensor: Tensor, precision: str) -> None:
    values, kind = _stored(gguf, tensor, precision)
    writer.add_tensor(name, values, raw_dtype=kind)


def _stored(gguf: Any, tensor: Tensor, precision: str) -> tuple[np.ndarray, Any]:
    """A tensor as GGUF keeps it, and GGUF's type of it."""
    types = gguf.GGMLQuantizationType
    if precision == "f32" or tensor.ndim == 1:
        return tensor.to(torch.float32).numpy(), types.F32
    if precision == "f16":
        return tensor.to(torch.float16).numpy(), types.F16
    return tensor.to(torch.bfloat16).view(torch.uint8).numpy(), types.BF16


def _refuse_overflow(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim > 1 and tensor.abs().max() > _LARGEST_F16:
            raise UserError(f"precision=f16: {name} has numbers beyond 65504, which f16 cannot hold. Take bf16 or f32")


def _verify(gguf: Any, file: Path, tensors: dict[str, Tensor], precision: str) -> None:
    """Read what was written and hold it against what was meant. Raises UserError where the two differ."""
    written = {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}
    for name, tensor in tensors.items():
        expected = _stored(gguf, tensor, precision)[0]
        if name not in written or written[name].tobytes() != expected.tobytes():
            raise UserError(f"format=gguf: {name} was not written as it is in the model. Update the package gguf")


def _notes(model: GPT, words: Vocabulary) -> Iterator[str]:
    if words.note:
        yield words.note
    if model.spec.blocks[0].spec("activation").name == "gelu":
        yield "llama.cpp computes GELU through a tanh, with a table of 16 bits; this model's GELU is exact"
    if model.spec.vocab_size > words.size:
        yield f"the {model.spec.vocab_size - words.size} rows of the vocabulary that pad it are left out"


def _tensors(model: GPT, architecture: Architecture, vocab_size: int) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the model, by GGUF's name, on the CPU."""
    table = model.embedding.weight[:vocab_size]
    yield "token_embd.weight", _plain(table)
    if model.position is not None:
        yield "position_embd.weight", _plain(model.position.weight)
    for index, block in enumerate(model.blocks):
        for name, tensor in _block(block, architecture):
            yield f"blk.{index}.{name}", _plain(tensor)
    for name, tensor in _norm("output_norm", model.final_norm, architecture):
        yield name, _plain(tensor)
    own = model.head.linear
    if own is not None:
        yield "output.weight", _plain(own.weight[:vocab_size])
    elif architecture.name in _HEAD_OF_ITS_OWN:
        yield "output.weight", _plain(table)


_HEAD_OF_ITS_OWN = ("gptneox", "nemotron", "olmo2")
"""Architectures that never take the token table for the head."""


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()


def _block(block: Any, architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
    attention, mlp = block.attention, block.mlp
    after = "res_post_norm" in architecture.parts["layout"]
    yield from _norm("post_attention_norm" if after else "attn_norm", block.attention_norm, architecture)
    yield from _norm("post_ffw_norm" if after else "ffn_norm", block.mlp_norm or block.attention_norm, architecture)
    if architecture.fused:
        yield from _fused_maps(attention, architecture)
    else:
        for name in ("q", "k", "v"):
            order = _neighbours(attention) if architecture.neighbours and name != "v" else None
            yield from _map(f"attn_{name}", getattr(attention, name), architecture, order)
    if architecture.qk_norm:
        yield from _norm("attn_q_norm", attention.q_norm, architecture)
        yield from _norm("attn_k_norm", attention.k_norm, architecture)
    yield from _map("attn_output", attention.o, architecture)
    for name in ("gate", "up", "down"):
        if hasattr(mlp, name):
            yield from _map(f"ffn_{name}", getattr(mlp, name), architecture)


def _norm(name: str, norm: Any, architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
    width = norm.shape[0] if norm.gain is None else norm.gain.numel()
    gain = torch.ones(width) if norm.gain is None else norm.gain
    yield f"{name}.weight", gain + 1 if getattr(norm, "unit_offset", False) else gain
    bias = getattr(norm, "bias", None)
    if bias is not None:
        yield f"{name}.bias", bias
    elif architecture.norm_bias == "zeros":
        yield f"{name}.bias", torch.zeros(width)


def _map(name: str, linear: Any, architecture: Architecture, order: Tensor | None = None):
    """order: of the rows of each head, None as they are."""
    yield f"{name}.weight", _ordered(linear.weight, order)
    if linear.bias is not None:
        yield f"{name}.bias", _ordered(linear.bias, order)
    elif architecture.bias == "zeros":
        yield f"{name}.bias", torch.zeros(linear.out_features)


def _fused_maps(attention: Any, architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
    maps = [attention.q, attention.k, attention.v]
    yield "attn_qkv.weight", torch.cat([linear.weight for linear in maps])
    if architecture.bias == "zeros" or any(linear.bias is not None for linear in maps):
        zeros = [torch.zeros(linear.out_features) for linear in maps]
        biases = [zero if linear.bias is None else linear.bias.cpu() for linear, zero in zip(maps, zeros, strict=True)]
        yield "attn_qkv.bias", torch.cat(biases)


def _neighbours(attention: Any) -> Tensor:
    """Where each dimension of a head comes from when pairs (i, i + d/2) become neighbours (2 i, 2 i + 1)."""
    half = attention.head_dim // 2
    return torch.arange(attention.head_dim).view(2, half).t().flatten()


def _ordered(rows: Tensor, order: Tensor | None) -> Tensor:
    """rows: (heads * head_dim, ...) -> each head's rows in another order."""
    if order is None:
        return rows
    return rows.unflatten(0, (-1, len(order)))[:, order].flatten(0, 1)
