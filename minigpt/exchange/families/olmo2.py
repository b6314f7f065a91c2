"""OLMo 2."""

from minigpt.exchange.families.llama import ACTIVATIONS, BUFFERS, FIXED, SITES, SIZES, TENSORS
from minigpt.exchange.family import ROPE, ROPE_ALIASES, Family, Word, flag, number, size

FAMILY = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    source="OLMo Team 2024, arXiv:2501.00656",
    fixed=FIXED | {"layout.name": "res_post_norm", "attention.qk_norm": True, "attention.qk_norm_over": "heads"},
    keys=SIZES
    | ROPE
    | {
        "vocab_size": size("vocab_size", 50304),
        "hidden_act": Word(("activation.name",), "silu", words=ACTIVATIONS),
        "rms_norm_eps": number("norm.eps", default=1e-5),
        "tie_word_embeddings": flag("tie_embeddings", default=False),
        "attention_bias": flag(*SITES["attention"], default=False),
    },
    tensors={theirs: ours for theirs, ours in TENSORS.items() if not theirs.endswith("layernorm")}
    | {
        "model.layers.{}.self_attn.q_norm": "blocks.{}.attention.q_norm",
        "model.layers.{}.self_attn.k_norm": "blocks.{}.attention.k_norm",
        "model.layers.{}.post_attention_layernorm": "blocks.{}.attention_norm",
        "model.layers.{}.post_feedforward_layernorm": "blocks.{}.mlp_norm",
    },
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
