"""What a family of models is to us, as a table: its configuration key by key, its tensors module by module.

A table is read in both directions. A key of theirs is one of ours (:class:`Size`, :class:`Number`, :class:`Flag`,
:class:`Word`, :class:`Windows`), a choice that our parts have in one way only (:class:`Only`), read by another key
(:class:`Helper`), or without influence on the logits (:data:`HARMLESS`). What stands in none of them is refused.
Imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Config = Mapping[str, Any]
Default = Any
"""What a missing key, or null, means: a value, or a function of the configuration."""


class Rule:
    """What becomes of one key of theirs. default: what it means when it is missing."""

    default: Default = None


@dataclasses.dataclass(frozen=True)
class Key(Rule):
    """One key of theirs. ours: paths in a block or a ModelSpec (``norm.eps``, ``sites.linear.q.bias``) it gives the
    value of."""

    ours: tuple[str, ...]
    default: Default
    kind: type = int

    def value(self, given: Any) -> Any:
        """Theirs -> ours; raises KeyError for a value we have no word for."""
        return given

    def theirs(self, value: Any) -> Any:
        """Ours -> theirs; None for a value they have no word for."""
        whole = isinstance(value, float) and type(self.default) is int and value.is_integer()
        return int(value) if whole else value


def size(ours: str, default: Default) -> Key:
    """A whole number."""
    return Key((ours,), default)


def number(*ours: str, default: Default) -> Key:
    """A real number, or null."""
    return Key(ours, default, float)


def flag(*ours: str, default: bool) -> Key:
    """true or false."""
    return Key(ours, default, bool)


@dataclasses.dataclass(frozen=True)
class Word(Key):
    """A name among several. words: theirs -> ours; the first one of theirs is written where several are ours."""

    kind: type = str
    words: Mapping[Any, Any] = dataclasses.field(default_factory=dict)

    def value(self, given: Any) -> Any:
        return self.words[given]

    def theirs(self, value: Any) -> Any:
        return next((word for word, ours in self.words.items() if ours == value), None)


@dataclasses.dataclass(frozen=True)
class Switch(Word):
    """true or false that chooses between two of ours."""

    kind: type = bool


@dataclasses.dataclass(frozen=True)
class Only(Rule):
    """A key that must have this value. why: what another one would ask for. absent: what a missing key means."""

    value: Any
    why: str
    absent: Any = None
    written: bool = False


@dataclasses.dataclass(frozen=True)
class Windows(Rule):
    """The key of the window's size, in the families where layers may have one.

    types: the key that lists ``sliding_attention`` or ``full_attention`` per layer, None where all layers are alike.
    sliding: whether a layer has the window where that list is missing. switch: the key without which there is none.
    needed: a size is written even when no layer has a window.
    """

    default: int | None
    types: str | None = None
    sliding: Callable[[Config, int], bool] = lambda config, layer: True
    switch: str | None = None
    needed: bool = False


@dataclasses.dataclass(frozen=True)
class Helper(Rule):
    """A key that only the defaults of others read."""

    default: Any = None


@dataclasses.dataclass(frozen=True)
class Fused:
    """Several maps of ours in one tensor of theirs, one below the other; per head in turns where ``by_head``.

    transposed: theirs is (in, out).
    """

    ours: tuple[str, ...]
    transposed: bool = False
    by_head: bool = False


def transposed(ours: str) -> Fused:
    """One map of ours that they hold as (in, out)."""
    return Fused((ours,), transposed=True)


@dataclasses.dataclass(frozen=True)
class Family:
    """One family.

    model_type, architecture: what ``config.json`` calls it. source: its paper. fixed: what is the same in all of its
    models, as paths in a block or a ModelSpec. keys: of ``config.json``. tensors: module of theirs -> module of ours,
    ``{}`` is the layer. buffers: tensors in older files that hold nothing learned. prefix: what a file of the body
    alone leaves out. nested: aliases of keys, in older files. extra: what else is written.
    """

    model_type: str
    architecture: str
    source: str
    fixed: Mapping[str, Any]
    keys: Mapping[str, Rule]
    tensors: Mapping[str, str | Fused]
    buffers: tuple[str, ...] = ()
    prefix: str = ""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


HARMLESS = {
    "transformers_version": "who wrote the file",
    "_name_or_path": "where it was",
    "_attn_implementation": "how it is computed",
    "_attn_implementation_autoset": "how it is computed",
    "model_type": "read before all others",
    "architectures": "read before all others",
    "torch_dtype": "each tensor says its own",
    "dtype": "each tensor says its own",
    "is_decoder": "a language model decodes anyway",
    "use_cache": "decoding gives the same with or without",
    "bos_token_id": "the tokenizer's",
    "eos_token_id": "the tokenizer's",
    "pad_token_id": "the tokenizer's",
    "sep_token_id": "the tokenizer's",
    "decoder_start_token_id": "of models with an encoder",
    "initializer_range": "first values",
    "attention_dropout": "training alone",
    "attn_pdrop": "training alone",
    "resid_pdrop": "training alone",
    "embd_pdrop": "training alone",
    "hidden_dropout": "training alone",
    "classifier_dropout": "of classifiers",
    "summary_type": "of classifiers",
    "summary_use_proj": "of classifiers",
    "summary_activation": "of classifiers",
    "summary_proj_to_labels": "of classifiers",
    "summary_first_dropout": "of classifiers",
    "id2label": "of classifiers",
    "label2id": "of classifiers",
    "num_labels": "of classifiers",
    "problem_type": "of classifiers",
    "output_hidden_states": "what is handed out beside the logits",
    "output_attentions": "what is handed out beside the logits",
    "output_scores": "what is handed out beside the logits",
    "return_dict": "what is handed out beside the logits",
    "torchscript": "how it is run",
    "chunk_size_feed_forward": "how it is run: in pieces or at once",
    "use_bfloat16": "how it is run",
    "tf_legacy_loss": "another framework's",
    "task_specific_params": "settings of pipelines",
    "prefix": "settings of pipelines",
    "finetuning_task": "where it comes from",
    "tokenizer_class": "the tokenizer's",
    "max_length": "settings of sampling",
    "min_length": "settings of sampling",
    "do_sample": "settings of sampling",
    "early_stopping": "settings of sampling",
    "num_beams": "settings of sampling",
    "temperature": "settings of sampling",
    "top_k": "settings of sampling",
    "top_p": "settings of sampling",
    "repetition_penalty": "settings of sampling",
    "gradient_checkpointing": "training alone",
    "unsloth_version": "who wrote the file",
    "unsloth_fixed": "who wrote the file",
    "is_llama_config": "who wrote the file",
    "transformers.js_config": "settings of another library",
    "_num_labels": "of classifiers",
    "cache_implementation": "decoding gives the same with any",
    "auto_map": "names code for who trusts it; none is run here, and the table says what the type computes",
}
"""Keys that do not change the logits of a language model, and why."""

ONLY = {
    "is_encoder_decoder": Only(False, "encoders are not among our models", absent=False),
    "add_cross_attention": Only(False, "cross-attention is not among our parts", absent=False),
    "quantization_config": Only(None, "its weights are packed. Take the unpacked model", absent=None),
    "rope_interleaved": Only(False, "our rotary positions turn halves of a head", absent=False),
    "pruned_heads": Only({}, "our layers have equal numbers of heads", absent={}),
}
"""Keys of every family that our parts have in one way only."""

ROPE: dict[str, Rule] = {
    "rope_parameters.rope_type": Only(
        "default", "scaled rotary positions are not read from elsewhere", absent="default", written=True
    ),
    "rope_parameters.rope_theta": number("position.theta", default=10000.0),
}
PARTIAL_ROPE = "rope_parameters.partial_rotary_factor"
ROPE_ALIASES = {
    "rope_theta": "rope_parameters.rope_theta",
    "partial_rotary_factor": PARTIAL_ROPE,
    "rope_parameters.type": "rope_parameters.rope_type",
}
