"""One table per family of models: ``minigpt.exchange.family`` says how to read them."""

from minigpt.exchange.families import gemma, gemma2, gpt2, gpt_neox, llama, mistral, olmo2, phi, phi3, qwen2, qwen3

FAMILIES = {
    each.FAMILY.model_type: each.FAMILY
    for each in (gpt2, llama, mistral, qwen2, qwen3, gemma, gemma2, olmo2, phi, phi3, gpt_neox)
}
"""model_type -> its table; a model of ours that several can hold goes to the first of them."""
