"""Gemma 1."""

from minigpt.exchange.families.gemma2 import NO_FUTURE
from minigpt.exchange.families.llama import ACTIVATIONS, BUFFERS, FIXED, SITES, SIZES, TENSORS
from minigpt.exchange.family import ROPE, ROPE_ALIASES, Family, Only, Word, flag, number, size

_TANH = "gelu_pytorch_tanh"
_WORDS = {_TANH: "gelu_tanh"} | ACTIVATIONS | {"gelu": "gelu_tanh"}

FAMILY = Family(
    model_type="gemma",
    architecture="GemmaForCausalLM",
    source="Gemma Team 2024, arXiv:2403.08295",
    fixed=FIXED | {"norm.unit_offset": True, "embedding.scaled": True},
    keys=SIZES
    | ROPE
    | {
        "vocab_size": size("vocab_size", 256000),
        "hidden_size": size("d_model", 3072),
        "intermediate_size": size("mlp.hidden", 24576),
        "num_hidden_layers": size("n_layer", 28),
        "num_attention_heads": size("n_head", 16),
        "num_key_value_heads": size("attention.n_kv_head", 16),
        "head_dim": size("head_dim", 256),
        "max_position_embeddings": size("block_size", 8192),
        # The first files say gelu and mean its approximation by tanh.
        "hidden_act": Word(("activation.name",), _TANH, words=_WORDS),
        "hidden_activation": Only(_TANH, "hidden_act says which activation it is", absent=_TANH),
        "rms_norm_eps": number("norm.eps", default=1e-6),
        "tie_word_embeddings": flag("tie_embeddings", default=True),
        "attention_bias": flag(*SITES["attention"], default=False),
    }
    | NO_FUTURE,
    tensors=TENSORS,
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
