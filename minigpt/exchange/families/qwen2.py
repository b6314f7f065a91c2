"""Qwen 2 and 2.5."""

from minigpt.exchange.families.llama import ACTIVATIONS, BUFFERS, FIXED, SIZES, TENSORS
from minigpt.exchange.families.qwen3 import WINDOWS
from minigpt.exchange.family import ROPE, ROPE_ALIASES, Family, Only, Word, flag, number, size

FAMILY = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    source="Yang et al. 2024, arXiv:2407.10671",
    fixed=FIXED | {f"sites.linear.{site}.bias": site != "o" for site in "qkvo"},
    keys=SIZES
    | ROPE
    | WINDOWS
    | {
        "vocab_size": size("vocab_size", 151936),
        "intermediate_size": size("mlp.hidden", 22016),
        "max_position_embeddings": size("block_size", 32768),
        "hidden_act": Word(("activation.name",), "silu", words=ACTIVATIONS),
        "rms_norm_eps": number("norm.eps", default=1e-6),
        "tie_word_embeddings": flag("tie_embeddings", default=False),
        "use_mrope": Only(False, "positions in several dimensions are not among our parts", absent=False),
    },
    tensors=TENSORS,
    buffers=BUFFERS,
    prefix="model.",
    aliases=ROPE_ALIASES,
)
