"""The shapes that llama.cpp runs, as a table: which parts each has, and what it asks of their sizes.

An architecture of GGUF is a fixed program with sizes. A model is written as one only when every part of every layer is
what that program computes; anything else is refused with the part that differs. Facts: the specification of GGUF
(github.com/ggml-org/ggml, docs/gguf.md), and what llama.cpp computed in tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

from torch import nn

from minigpt import registry, schema
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.registry import Spec

Bias = Literal["kept", "zeros", "none"]
"""Where a model has no bias, an architecture leaves it out or wants zeros; or it takes no bias at all."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """name: GGUF's. parts: axis -> the components it computes. qk_norm: whether queries and keys are normed, each
    head alone or all together (qk_norm_over).

    fused: query, key and value maps lie in one matrix. neighbours: rotary pairs are (0, 1), (2, 3) ... of a head, where
    ours are (i, i + r/2), so that rows of the query and key maps change places. whole_head: all of a head is turned.
    square: n_head * head_dim is d_model. bias: of linear maps. norm_bias: of norms.
    """

    name: str
    parts: Mapping[str, tuple[str, ...]]
    qk_norm: bool = False
    qk_norm_over: str = "head"
    fused: bool = False
    neighbours: bool = False
    whole_head: bool = False
    square: bool = False
    bias: Bias = "kept"
    norm_bias: Bias = "none"


_COMMON = {"layout": ("pre_norm",), "attention": ("causal",), "softmax": ("softmax",), "linear": ("linear",)}
_COMMON |= {"residual": ("add",), "embedding": ("table",), "head": ("linear",)}
_GATED = _COMMON | {"norm": ("rmsnorm",), "position": ("rope",), "mlp": ("glu",), "activation": ("silu",)}
_PLAIN = _COMMON | {"norm": ("layernorm",), "mlp": ("mlp",), "activation": ("gelu_tanh", "gelu")}
_LEARNED, _ROPE, _ALIBI = ({"position": (name,)} for name in ("learned", "rope", "alibi"))

ARCHITECTURES = (
    Architecture("llama", _GATED, neighbours=True, whole_head=True),
    Architecture("qwen3", _GATED, qk_norm=True, whole_head=True, bias="none"),
    Architecture(
        "olmo2",
        _GATED | {"layout": ("res_post_norm",)},
        qk_norm=True,
        qk_norm_over="heads",
        whole_head=True,
        bias="none",
    ),
    Architecture("gpt2", _PLAIN | _LEARNED, fused=True, square=True, bias="zeros", norm_bias="zeros"),
    Architecture("starcoder2", _PLAIN | _ROPE, whole_head=True, bias="zeros", norm_bias="zeros"),
    Architecture(
        "gptneox",
        _PLAIN | _ROPE | {"layout": ("parallel",)},
        fused=True,
        square=True,
        bias="zeros",
        norm_bias="zeros",
    ),
    Architecture("mpt", _PLAIN | _ALIBI, fused=True, square=True, norm_bias="kept"),
    Architecture("nemotron", _PLAIN | _ROPE | {"activation": ("squared_relu",)}, norm_bias="zeros"),
)
"""The first that fits is taken."""

_OPTIONS = {
    "attention": {"n_kv_head", "qk_norm", "qk_norm_over", "dropout", "window", "softcap"},
    "embedding": {"file", "frozen"},
    "norm": {"eps", "gain", "bias", "unit_offset"},
    "linear": {"bias"},
    "layout": {"shared_norm"},
    "position": {"theta", "fraction"},
    "mlp": {"hidden", "expansion", "multiple_of"},
}
"""Options of components that are written, or asked about below; any other has to have its default."""


def architecture_of(model: GPT) -> Architecture:
    """The architecture of GGUF that computes what ``model`` does. Raises UserError with what no architecture has."""
    _refuse_uneven(model)
    found = {architecture.name: list(_differences(architecture, model)) for architecture in ARCHITECTURES}
    for architecture in ARCHITECTURES:
        if not found[architecture.name]:
            return architecture
    nearest = min(found, key=lambda name: len(found[name]))
    raise UserError(
        f"format=gguf: no architecture of llama.cpp computes this model. In the nearest, {nearest}, "
        f"{found[nearest][0]}.\n  format=onnx takes many more"
    )


def eps_of(model: GPT) -> float:
    """The eps of all norms of a model that has an architecture."""
    return float(model.spec.default.spec("norm", "final").options.eps)


def _refuse_uneven(model: GPT) -> None:
    """Raise UserError for what no architecture has: layers of several kinds, shared ones, rewritten models."""
    spec = model.spec
    if spec.transforms:
        names = ", ".join(transform.name for transform in spec.transforms)
        raise UserError(f"format=gguf: the model is rewritten by transforms [{names}], which llama.cpp does not know")
    if spec.share != type(spec.share)():
        raise UserError("format=gguf: layers share their weights (share), which llama.cpp does not know")
    for index, block in enumerate(spec.blocks):
        if (block.parts, block.sites) != (spec.blocks[0].parts, spec.blocks[0].sites):
            raise UserError(
                f"format=gguf: layer {index} has other parts than layer 0; llama.cpp runs layers of one kind"
            )


def _differences(architecture: Architecture, model: GPT) -> Iterator[str]:
    """What keeps a model from being of this architecture, each as a clause."""
    same = True
    for axis, place, chosen in _choices(model):
        names = architecture.parts.get(axis, (registry.default(axis).name,))
        if chosen.name not in names:
            same = False
            yield f"{axis} is {' or '.join(names)}, and{place} here {chosen.name}"
        elif odd := [option for option in _changed(chosen) if option not in _OPTIONS.get(axis, ())]:
            same = False
            yield f"{axis} has no option {odd[0]}, and {place or 'this model'} sets {axis}.{odd[0]}"
    if same:
        yield from _option_differences(architecture, model)
        yield from _size_differences(architecture, model)


def _choices(model: GPT) -> Iterator[tuple[str, str, Spec]]:
    """(axis, where, choice) of everything a model is made of, except how it started."""
    spec = model.spec
    for axis, chosen in spec.parts.items():
        if axis != "init":
            yield axis, "", chosen
    for block in (spec.blocks[0], spec.default):  # the last norm and a position of the embedding are the default's
        for axis, chosen in block.parts.items():
            yield axis, "", chosen
        for axis, places in block.sites.items():
            for site, chosen in places.items():
                yield axis, f" at {site}", chosen


def _changed(chosen: Spec) -> list[str]:
    default = schema.defaults(type(chosen.options))
    return [key for key, value in schema.plain(chosen.options).items() if key not in default or value != default[key]]


def _option_differences(architecture: Architecture, model: GPT) -> Iterator[str]:
    spec, block = model.spec, model.spec.blocks[0]
    attention, position = block.spec("attention").options, block.spec("position")
    if attention.window is not None and attention.window < spec.block_size:
        yield "attention has no window, and here attention.window is set"
    if attention.softcap is not None:
        yield "scores are not capped, and here attention.softcap is set"
    if attention.qk_norm != architecture.qk_norm:
        yield f"queries and keys are {'normed' if architecture.qk_norm else 'not normed'} (attention.qk_norm)"
    elif attention.qk_norm_over != architecture.qk_norm_over:
        yield f"queries and keys are normed over {architecture.qk_norm_over} (attention.qk_norm_over)"
    if model.embedding_norm is not None:
        yield "what is embedded is not normed, and here sites.norm.embedding is set"
    if architecture.whole_head and position.options.fraction < 1:
        yield "whole heads are turned, and here position.fraction is less than 1"
    if len({block.spec("norm", site).options.eps for site in _norms(architecture)} | {eps_of(model)}) > 1:
        yield "all norms have one eps"


def _norms(architecture: Architecture) -> tuple[str, ...]:
    return ("attention", "mlp", "qk") if architecture.qk_norm else ("attention", "mlp")


def _size_differences(architecture: Architecture, model: GPT) -> Iterator[str]:
    spec, attention = model.spec, model.blocks[0].attention
    if spec.n_head % attention.n_kv_head:
        yield f"heads come in even groups, and {spec.n_head} do not for attention.n_kv_head={attention.n_kv_head}"
    if architecture.square and spec.n_head * spec.head_dim != spec.d_model:
        yield f"n_head * head_dim is d_model, and here {spec.n_head} * {spec.head_dim} is not {spec.d_model}"
    if architecture.bias == "none" and any(linear.bias is not None for linear in _maps(model)):
        yield "linear maps have no bias (model.bias)"
    if model.head.linear is not None and model.head.linear.bias is not None:
        yield "the head has no bias (sites.linear.head.bias)"
    if architecture.whole_head and spec.head_dim % 2:
        yield f"head_dim is even, and here {spec.head_dim}"


def _maps(model: GPT) -> Iterator[nn.Linear]:
    return (part for part in model.blocks.modules() if isinstance(part, nn.Linear))
