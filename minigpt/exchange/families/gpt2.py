"""GPT-2."""

from minigpt.exchange.families.llama import ACTIVATIONS
from minigpt.exchange.family import Family, Fused, Only, Word, flag, number, size, transposed

FIXED = {
    "layout.name": "pre_norm",
    "norm.name": "layernorm",
    "attention.name": "causal",
    "mlp.name": "mlp",
    "position.name": "learned",
    "bias": True,
}
TENSORS: dict[str, str | Fused] = {
    "transformer.wte": "embedding",
    "transformer.wpe": "position",
    "transformer.h.{}.ln_1": "blocks.{}.attention_norm",
    "transformer.h.{}.attn.c_attn": Fused(
        ("blocks.{}.attention.q", "blocks.{}.attention.k", "blocks.{}.attention.v"), transposed=True
    ),
    "transformer.h.{}.attn.c_proj": transposed("blocks.{}.attention.o"),
    "transformer.h.{}.ln_2": "blocks.{}.mlp_norm",
    "transformer.h.{}.mlp.c_fc": transposed("blocks.{}.mlp.up"),
    "transformer.h.{}.mlp.c_proj": transposed("blocks.{}.mlp.down"),
    "transformer.ln_f": "final_norm",
    "lm_head": "head.linear",
}

FAMILY = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    source="Radford et al. 2019, Language Models are Unsupervised Multitask Learners",
    fixed=FIXED,
    keys={
        "vocab_size": size("vocab_size", 50257),
        "n_positions": size("block_size", 1024),
        "n_embd": size("d_model", 768),
        "n_layer": size("n_layer", 12),
        "n_head": size("n_head", 12),
        "n_inner": size("mlp.hidden", lambda config: 4 * config["n_embd"]),
        "activation_function": Word(("activation.name",), "gelu_new", words={"gelu_new": "gelu_tanh"} | ACTIVATIONS),
        "layer_norm_epsilon": number("norm.eps", default=1e-5),
        "tie_word_embeddings": flag("tie_embeddings", default=True),
        "scale_attn_weights": Only(True, "unscaled scores are not among our parts", absent=True),
        "scale_attn_by_inverse_layer_idx": Only(False, "scores scaled by layer are not among our parts", absent=False),
        "reorder_and_upcast_attn": Only(False, "it rounds scores in another order", absent=False),
    },
    tensors=TENSORS,
    buffers=("transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"),
    prefix="transformer.",
    extra={"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
    aliases={"n_ctx": "n_positions"},
)
