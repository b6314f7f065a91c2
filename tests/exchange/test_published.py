"""Configurations as they are published, keys and all: understood, and of the size that is known of the model."""

from __future__ import annotations

import pytest

from minigpt.errors import UserError
from minigpt.exchange.huggingface import family_of, spec_from_config
from minigpt.model import GPT

USUAL = {"transformers_version": "4.4x", "torch_dtype": "bfloat16", "use_cache": True, "initializer_range": 0.02}
USUAL |= {"bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0}
PUBLISHED = {
    "gpt2": (
        124_439_808,
        {
            "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
            "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
            "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None,
            "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
            "summary_use_proj": True, "vocab_size": 50257,
            "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        },
    ),
    "Llama 2 7B": (
        6_738_415_616,
        USUAL
        | {
            "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 4096,
            "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1,
            "rms_norm_eps": 1e-05, "rope_scaling": None, "tie_word_embeddings": False, "vocab_size": 32000,
        },
    ),
    "SmolLM2 135M": (
        134_515_008,
        USUAL
        | {
            "architectures": ["LlamaForCausalLM"], "attention_bias": False, "hidden_act": "silu", "hidden_size": 576,
            "intermediate_size": 1536, "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False,
            "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
            "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None,
            "rope_theta": 100000, "tie_word_embeddings": True, "transformers.js_config": {"kv_cache_dtype": {}},
            "vocab_size": 49152,
        },
    ),
    "Mistral 7B": (
        7_241_732_096,
        USUAL
        | {
            "architectures": ["MistralForCausalLM"], "hidden_act": "silu", "hidden_size": 4096,
            "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
        },
    ),
    "Qwen2.5 0.5B": (
        494_032_768,
        USUAL
        | {
            "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 896,
            "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
            "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
            "use_mrope": False, "use_sliding_window": False, "vocab_size": 151936,
        },
    ),
    "Qwen3 0.6B": (
        596_049_920,
        USUAL
        | {
            "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 128, "hidden_act": "silu",
            "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
            "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
            "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
            "sliding_window": None, "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
        },
    ),
    "Gemma 2 2B": (
        2_614_341_888,
        USUAL
        | {
            "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": 50.0,
            "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304,
            "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2",
            "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0,
            "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096,
            "vocab_size": 256000,
        },
    ),
    "Phi 2": (
        2_779_683_840,
        USUAL
        | {
            "architectures": ["PhiForCausalLM"], "embd_pdrop": 0.0, "hidden_act": "gelu_new", "hidden_size": 2560,
            "intermediate_size": 10240, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048,
            "model_type": "phi", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
            "partial_rotary_factor": 0.4, "qk_layernorm": False, "resid_pdrop": 0.1, "rope_scaling": None,
            "rope_theta": 10000.0, "tie_word_embeddings": False, "vocab_size": 51200,
        },
    ),
    "Phi 3 mini": (
        3_821_079_552,
        USUAL
        | {
            "architectures": ["Phi3ForCausalLM"], "attention_bias": False, "embd_pdrop": 0.0, "hidden_act": "silu",
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "hidden_size": 3072,
            "intermediate_size": 8192, "max_position_embeddings": 4096, "model_type": "phi3",
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
            "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0,
            "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047,
            "tie_word_embeddings": False, "vocab_size": 32064,
        },
    ),
    "Pythia 70M": (
        70_426_624,
        {
            "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "classifier_dropout": 0.1, "eos_token_id": 0,
            "hidden_act": "gelu", "hidden_size": 512, "initializer_range": 0.02, "intermediate_size": 2048,
            "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox",
            "num_attention_heads": 8, "num_hidden_layers": 6, "rotary_emb_base": 10000, "rotary_pct": 0.25,
            "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.24.0",
            "use_cache": True, "use_parallel_residual": True, "vocab_size": 50304,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_the_parameters_that_are_known_of_it(name):
    parameters, config = PUBLISHED[name]
    spec = spec_from_config(config, family_of(config, "config.json"), "config.json")
    assert GPT.on_meta(spec).parameter_count() == parameters


def test_what_is_special_of_them_arrives():
    def block(name, layer=0):
        config = PUBLISHED[name][1]
        return spec_from_config(config, family_of(config, "config.json"), "config.json").blocks[layer]

    assert block("Mistral 7B").spec("attention").options.window == 4096
    assert [block("Gemma 2 2B", layer).spec("attention").options.window for layer in (0, 1)] == [4096, None]
    assert block("Phi 2").spec("position").options.fraction == 0.4
    assert block("Pythia 70M").spec("layout").name == "parallel"
    assert block("SmolLM2 135M").spec("position").options.theta == 100000
    assert block("Qwen2.5 0.5B").spec("linear", "q").options.bias is True
    assert block("Qwen2.5 0.5B").spec("linear", "o").options.bias is None


def test_llama_3_1_is_refused_for_its_positions():
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"}
    scaling["original_max_position_embeddings"] = 8192
    config = PUBLISHED["Llama 2 7B"][1] | {"rope_scaling": scaling, "rope_theta": 500000.0}
    with pytest.raises(UserError, match=r"rope_type is 'llama3'.*scaled rotary positions are not read from elsewhere"):
        spec_from_config(config, family_of(config, "config.json"), "config.json")
