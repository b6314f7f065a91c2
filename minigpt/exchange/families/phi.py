"""Phi 1, 1.5 and 2."""

from minigpt.exchange.families.llama import ACTIVATIONS, BUFFERS, SIZES
from minigpt.exchange.family import PARTIAL_ROPE, ROPE, ROPE_ALIASES, Family, Word, flag, number, size

FAMILY = Family(
    model_type="phi",
    architecture="PhiForCausalLM",
    source="Li et al. 2023, arXiv:2309.05463",
    fixed={
        "layout.name": "parallel",
        "layout.shared_norm": True,
        "norm.name": "layernorm",
        "attention.name": "causal",
        "mlp.name": "mlp",
        "position.name": "rope",
        "bias": True,
        "sites.linear.head.bias": True,
    },
    keys=SIZES
    | ROPE
    | {
        "vocab_size": size("vocab_size", 51200),
        "hidden_size": size("d_model", 2048),
        "intermediate_size": size("mlp.hidden", 8192),
        "num_hidden_layers": size("n_layer", 24),
        PARTIAL_ROPE: number("position.fraction", default=0.5),
        "hidden_act": Word(("activation.name",), "gelu_new", words={"gelu_new": "gelu_tanh"} | ACTIVATIONS),
        "layer_norm_eps": number("norm.eps", default=1e-5),
        "tie_word_embeddings": flag("tie_embeddings", default=False),
        "qk_layernorm": flag("attention.qk_norm", default=False),
    },
    tensors={
        "model.embed_tokens": "embedding",
        "model.layers.{}.input_layernorm": "blocks.{}.attention_norm",
        "model.layers.{}.self_attn.q_proj": "blocks.{}.attention.q",
        "model.layers.{}.self_attn.k_proj": "blocks.{}.attention.k",
        "model.layers.{}.self_attn.v_proj": "blocks.{}.attention.v",
        "model.layers.{}.self_attn.dense": "blocks.{}.attention.o",
        "model.layers.{}.self_attn.q_layernorm": "blocks.{}.attention.q_norm",
        "model.layers.{}.self_attn.k_layernorm": "blocks.{}.attention.k_norm",
        "model.layers.{}.mlp.fc1": "blocks.{}.mlp.up",
        "model.layers.{}.mlp.fc2": "blocks.{}.mlp.down",
        "model.final_layernorm": "final_norm",
        "lm_head": "head.linear",
    },
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
