"""Phi 3, without the scaled positions of its long-context models."""

from minigpt.exchange.families.llama import ACTIVATIONS, BUFFERS, FIXED, SIZES, TENSORS
from minigpt.exchange.family import (
    PARTIAL_ROPE,
    ROPE,
    ROPE_ALIASES,
    Family,
    Fused,
    Helper,
    Only,
    Windows,
    Word,
    flag,
    number,
    size,
)

_APART = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")

FAMILY = Family(
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    source="Abdin et al. 2024, arXiv:2404.14219",
    fixed=FIXED,
    keys=SIZES
    | ROPE
    | {
        "vocab_size": size("vocab_size", 32064),
        "hidden_size": size("d_model", 3072),
        "intermediate_size": size("mlp.hidden", 8192),
        "max_position_embeddings": size("block_size", 4096),
        "original_max_position_embeddings": Helper(4096),  # of scaled positions
        PARTIAL_ROPE: number("position.fraction", default=1.0),
        "sliding_window": Windows(None),
        "hidden_act": Word(("activation.name",), "silu", words=ACTIVATIONS),
        "rms_norm_eps": number("norm.eps", default=1e-5),
        "attention_bias": Only(False, "its maps have none", absent=False),
        "tie_word_embeddings": flag("tie_embeddings", default=False),
    },
    tensors={theirs: ours for theirs, ours in TENSORS.items() if not theirs.endswith(_APART)}
    | {
        "model.layers.{}.self_attn.qkv_proj": Fused(
            ("blocks.{}.attention.q", "blocks.{}.attention.k", "blocks.{}.attention.v")
        ),
        "model.layers.{}.mlp.gate_up_proj": Fused(("blocks.{}.mlp.gate", "blocks.{}.mlp.up")),
    },
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
