"""Gemma 2."""

from minigpt.exchange.families.llama import ACTIVATIONS, BUFFERS, FIXED, SITES, SIZES, TENSORS
from minigpt.exchange.family import ROPE, ROPE_ALIASES, Family, Helper, Only, Rule, Windows, Word, flag, number, size

_TANH = "gelu_pytorch_tanh"
NO_FUTURE: dict[str, Rule] = {"use_bidirectional_attention": Only(False, "our models see the past alone", absent=False)}

FAMILY = Family(
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    source="Gemma Team 2024, arXiv:2408.00118",
    fixed=FIXED | {"layout.name": "sandwich", "norm.unit_offset": True, "embedding.scaled": True},
    keys=SIZES
    | ROPE
    | {
        "vocab_size": size("vocab_size", 256000),
        "hidden_size": size("d_model", 2304),
        "intermediate_size": size("mlp.hidden", 9216),
        "num_hidden_layers": size("n_layer", 26),
        "num_attention_heads": size("n_head", 8),
        "num_key_value_heads": size("attention.n_kv_head", 4),
        "head_dim": size("head_dim", 256),
        "max_position_embeddings": size("block_size", 8192),
        "sliding_window": Windows(4096, types="layer_types", sliding=lambda config, layer: layer % 2 == 0, needed=True),
        "layer_types": Helper(),
        "query_pre_attn_scalar": number("attention.scale_width", default=256),
        "attn_logit_softcapping": number("attention.softcap", default=50.0),
        "final_logit_softcapping": number("head.softcap", default=30.0),
        "hidden_activation": Word(("activation.name",), _TANH, words=ACTIVATIONS),
        "hidden_act": Only(_TANH, "hidden_activation says which activation it is", absent=_TANH),
        "rms_norm_eps": number("norm.eps", default=1e-6),
        "tie_word_embeddings": flag("tie_embeddings", default=True),
        "attention_bias": flag(*SITES["attention"], default=False),
    }
    | NO_FUTURE,
    tensors=TENSORS
    | {
        "model.layers.{}.post_attention_layernorm": "blocks.{}.attention_out_norm",
        "model.layers.{}.pre_feedforward_layernorm": "blocks.{}.mlp_norm",
        "model.layers.{}.post_feedforward_layernorm": "blocks.{}.mlp_out_norm",
    },
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
