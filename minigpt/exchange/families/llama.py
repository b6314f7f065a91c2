"""Llama and what is made like it."""

from minigpt.exchange.family import ROPE, ROPE_ALIASES, Family, Fused, Only, Rule, Word, flag, number, size

SITES = {
    "attention": tuple(f"sites.linear.{site}.bias" for site in "qkvo"),
    "mlp": tuple(f"sites.linear.{site}.bias" for site in ("gate", "up", "down")),
}
FIXED = {
    "layout.name": "pre_norm",
    "norm.name": "rmsnorm",
    "attention.name": "causal",
    "mlp.name": "glu",
    "position.name": "rope",
    "bias": False,
}
ACTIVATIONS = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
    "relu2": "squared_relu",
    "swish": "silu",
    "gelu_fast": "gelu_tanh",
}
"""Names that transformers has for activations -> ours. gelu_fast and gelu_new write the same formula out."""
SIZES: dict[str, Rule] = {
    "vocab_size": size("vocab_size", 32000),
    "hidden_size": size("d_model", 4096),
    "intermediate_size": size("mlp.hidden", 11008),
    "num_hidden_layers": size("n_layer", 32),
    "num_attention_heads": size("n_head", 32),
    "num_key_value_heads": size("attention.n_kv_head", lambda config: config["num_attention_heads"]),
    "max_position_embeddings": size("block_size", 2048),
}
HEAD_DIM = size("head_dim", lambda config: config["hidden_size"] // config["num_attention_heads"])
TENSORS: dict[str, str | Fused] = {
    "model.embed_tokens": "embedding",
    "model.layers.{}.input_layernorm": "blocks.{}.attention_norm",
    "model.layers.{}.self_attn.q_proj": "blocks.{}.attention.q",
    "model.layers.{}.self_attn.k_proj": "blocks.{}.attention.k",
    "model.layers.{}.self_attn.v_proj": "blocks.{}.attention.v",
    "model.layers.{}.self_attn.o_proj": "blocks.{}.attention.o",
    "model.layers.{}.post_attention_layernorm": "blocks.{}.mlp_norm",
    "model.layers.{}.mlp.gate_proj": "blocks.{}.mlp.gate",
    "model.layers.{}.mlp.up_proj": "blocks.{}.mlp.up",
    "model.layers.{}.mlp.down_proj": "blocks.{}.mlp.down",
    "model.norm": "final_norm",
    "lm_head": "head.linear",
}
BUFFERS = ("model.layers.{}.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq")

FAMILY = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    source="Touvron et al. 2023, arXiv:2302.13971",
    fixed=FIXED,
    keys=SIZES
    | ROPE
    | {
        "head_dim": HEAD_DIM,
        "hidden_act": Word(("activation.name",), "silu", words=ACTIVATIONS),
        "rms_norm_eps": number("norm.eps", default=1e-6),
        "tie_word_embeddings": flag("tie_embeddings", default=False),
        "attention_bias": flag(*SITES["attention"], default=False),
        "mlp_bias": flag(*SITES["mlp"], default=False),
        "pretraining_tp": Only(1, "sums in pieces round differently", absent=1),
    },
    tensors=TENSORS,
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
