"""Models of other projects in: ``minigpt import``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.exchange.config import ImportConfig


@entry("import", ImportConfig)
def main(config: ImportConfig) -> None:
    """Turn another project's model into a checkpoint, to sample from, to train on, to evaluate.

    {this} source=gpt2 out=out/gpt2                        from the hub, or its cache
    {this} source=<Hugging Face folder> out=out/<name>     Llama, Mistral, Qwen 3, Gemma 2, OLMo 2, Phi, GPT-NeoX
    {this} source=<folder>/ckpt.pt out=out/<name>          nanoGPT, and what was fine-tuned from it
    """
    from minigpt.exchange.importing import import_

    import_(config)
