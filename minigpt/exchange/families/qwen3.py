"""Qwen 3."""

from minigpt.exchange.families.llama import ACTIVATIONS, BUFFERS, FIXED, SITES, SIZES, TENSORS
from minigpt.exchange.family import ROPE, ROPE_ALIASES, Family, Helper, Rule, Windows, Word, flag, number, size

WINDOWS: dict[str, Rule] = {
    "sliding_window": Windows(
        4096,
        types="layer_types",
        sliding=lambda config, layer: layer >= config["max_window_layers"],
        switch="use_sliding_window",
    ),
    "layer_types": Helper(),
    "use_sliding_window": Helper(False),
    "max_window_layers": Helper(28),
}

FAMILY = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    source="Yang et al. 2025, arXiv:2505.09388",
    fixed=FIXED | {"attention.qk_norm": True, "attention.qk_norm_over": "head"},
    keys=SIZES
    | ROPE
    | WINDOWS
    | {
        "vocab_size": size("vocab_size", 151936),
        "intermediate_size": size("mlp.hidden", 22016),
        "max_position_embeddings": size("block_size", 32768),
        "head_dim": size("head_dim", 128),
        "hidden_act": Word(("activation.name",), "silu", words=ACTIVATIONS),
        "rms_norm_eps": number("norm.eps", default=1e-6),
        "tie_word_embeddings": flag("tie_embeddings", default=False),
        "attention_bias": flag(*SITES["attention"], default=False),
    },
    tensors=TENSORS
    | {
        "model.layers.{}.self_attn.q_norm": "blocks.{}.attention.q_norm",
        "model.layers.{}.self_attn.k_norm": "blocks.{}.attention.k_norm",
    },
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
