"""Mistral 7B."""

from minigpt.exchange.families.llama import ACTIVATIONS, BUFFERS, FIXED, HEAD_DIM, SIZES, TENSORS
from minigpt.exchange.family import ROPE, ROPE_ALIASES, Family, Windows, Word, flag, number, size

FAMILY = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    source="Jiang et al. 2023, arXiv:2310.06825",
    fixed=FIXED,
    keys=SIZES
    | ROPE
    | {
        "intermediate_size": size("mlp.hidden", 14336),
        "num_key_value_heads": size("attention.n_kv_head", 8),
        "max_position_embeddings": size("block_size", 131072),
        "head_dim": HEAD_DIM,
        "sliding_window": Windows(4096),
        "hidden_act": Word(("activation.name",), "silu", words=ACTIVATIONS),
        "rms_norm_eps": number("norm.eps", default=1e-6),
        "tie_word_embeddings": flag("tie_embeddings", default=False),
    },
    tensors=TENSORS,
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
