"""Small models of every family as transformers makes them, their weights random: what ours are compared with."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
import transformers

from minigpt.data.hf_files import huggingface_config, to_huggingface
from minigpt.data.tokenizers import CharTokenizer, Tokenizer

logging.getLogger("transformers").setLevel(logging.ERROR)
transformers.utils.logging.disable_progress_bar()

VOCABULARY = CharTokenizer("".join(chr(point) for point in range(33, 33 + 61)))
SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
ROPE = {"rope_type": "default", "rope_theta": 500.0}
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"vocab_size": 61, "n_positions": 32, "n_embd": 32, "n_layer": 3, "n_head": 4}),
    "gpt2_own_head": (
        "GPT2",
        {"vocab_size": 61, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 40}
        | {"tie_word_embeddings": False, "activation_function": "relu", "layer_norm_epsilon": 1e-3},
    ),
    "llama": ("Llama", GROUPED | {"rope_parameters": ROPE, "rms_norm_eps": 1e-3}),
    "llama_biased": ("Llama", GROUPED | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama_wide_heads": ("Llama", GROUPED | {"head_dim": 20, "num_key_value_heads": 1, "hidden_act": "gelu"}),
    "mistral": ("Mistral", GROUPED | {"sliding_window": 7}),
    "mistral_full": ("Mistral", GROUPED | {"sliding_window": None, "head_dim": 16}),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 16, "rope_parameters": ROPE}),
    "qwen3_windows": (
        "Qwen3",
        GROUPED
        | {"head_dim": 16, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
        | {"attention_bias": True},
    ),
    "gemma2": (
        "Gemma2",
        GROUPED
        | {"head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 24}
        | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "gemma2_uncapped": (
        "Gemma2",
        GROUPED
        | {"head_dim": 16, "sliding_window": 31}
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "gemma": ("Gemma", GROUPED | {"head_dim": 16}),
    "qwen2": ("Qwen2", GROUPED | {"rope_parameters": ROPE}),
    "qwen2_windows": (
        "Qwen2",
        GROUPED
        | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2, "tie_word_embeddings": True},
    ),
    "phi3": (
        "Phi3",
        GROUPED
        | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}, "sliding_window": 7}
        | {"original_max_position_embeddings": 32},
    ),
    "olmo2": ("Olmo2", GROUPED | {"rope_parameters": ROPE}),
    "phi": ("Phi", GROUPED | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}}),
    "phi_normed": ("Phi", GROUPED | {"qk_layernorm": True}),
    "gpt_neox": ("GPTNeoX", SIZES | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.25}}),
    "gpt_neox_serial": ("GPTNeoX", SIZES | {"use_parallel_residual": False, "attention_bias": False}),
}
"""Name -> (transformers' class, its configuration)."""


def config_of(name: str) -> Any:
    cls, options = MADE[name]
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return getattr(transformers, f"{cls}Config")(**options, **ids)


def make(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """The model of transformers, every parameter away from its first value."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config_of(name), attn_implementation="eager")
    with torch.no_grad():  # biases and gains too: at their first values they would hide a missing one
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def save(model: Any, folder: Path, tokenizer: Tokenizer = VOCABULARY, **options: Any) -> Path:
    """As transformers saves it, with a tokenizer."""
    model.save_pretrained(folder, **options)
    (folder / "tokenizer.json").write_text(json.dumps(to_huggingface(tokenizer)))
    (folder / "tokenizer_config.json").write_text(json.dumps(huggingface_config(tokenizer)))
    return folder


def tokens(rows: int = 2, length: int = 32) -> torch.Tensor:
    return torch.randint(0, 61, (rows, length), generator=torch.Generator().manual_seed(1))
