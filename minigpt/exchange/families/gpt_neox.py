"""GPT-NeoX and Pythia."""

from minigpt.exchange.families.llama import ACTIVATIONS
from minigpt.exchange.family import (
    PARTIAL_ROPE,
    ROPE,
    ROPE_ALIASES,
    Family,
    Fused,
    Switch,
    Word,
    flag,
    number,
    size,
)

FAMILY = Family(
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    source="Black et al. 2022, arXiv:2204.06745",
    fixed={
        "norm.name": "layernorm",
        "attention.name": "causal",
        "mlp.name": "mlp",
        "position.name": "rope",
        "bias": True,
    },
    keys=ROPE
    | {
        "vocab_size": size("vocab_size", 50432),
        "hidden_size": size("d_model", 6144),
        "intermediate_size": size("mlp.hidden", 24576),
        "num_hidden_layers": size("n_layer", 44),
        "num_attention_heads": size("n_head", 64),
        "max_position_embeddings": size("block_size", 2048),
        PARTIAL_ROPE: number("position.fraction", default=0.25),
        "hidden_act": Word(("activation.name",), "gelu", words=ACTIVATIONS),
        "layer_norm_eps": number("norm.eps", default=1e-5),
        "tie_word_embeddings": flag("tie_embeddings", default=False),
        "attention_bias": flag(*(f"sites.linear.{site}.bias" for site in "qkvo"), default=True),
        "use_parallel_residual": Switch(("layout.name",), True, words={True: "parallel", False: "pre_norm"}),
    },
    tensors={
        "gpt_neox.embed_in": "embedding",
        "gpt_neox.layers.{}.input_layernorm": "blocks.{}.attention_norm",
        "gpt_neox.layers.{}.post_attention_layernorm": "blocks.{}.mlp_norm",
        "gpt_neox.layers.{}.attention.query_key_value": Fused(
            ("blocks.{}.attention.q", "blocks.{}.attention.k", "blocks.{}.attention.v"), by_head=True
        ),
        "gpt_neox.layers.{}.attention.dense": "blocks.{}.attention.o",
        "gpt_neox.layers.{}.mlp.dense_h_to_4h": "blocks.{}.mlp.up",
        "gpt_neox.layers.{}.mlp.dense_4h_to_h": "blocks.{}.mlp.down",
        "gpt_neox.final_layer_norm": "final_norm",
        "embed_out": "head.linear",
    },
    buffers=(
        "gpt_neox.layers.{}.attention.rotary_emb.inv_freq",
        "gpt_neox.layers.{}.attention.bias",
        "gpt_neox.layers.{}.attention.masked_bias",
        "gpt_neox.rotary_emb.inv_freq",
    ),
    prefix="gpt_neox.",
    extra={"attention_dropout": 0.0, "hidden_dropout": 0.0},
    aliases=ROPE_ALIASES | {"rotary_pct": PARTIAL_ROPE, "rotary_emb_base": "rope_parameters.rope_theta"},
)
