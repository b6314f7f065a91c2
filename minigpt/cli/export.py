"""Models for other projects: ``minigpt export``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.exchange.config import ExportConfig


@entry("export", ExportConfig)
def main(config: ExportConfig) -> None:
    """Write a trained model in the form another project opens.

    {this} checkpoint=out/<run> format=hf out=<new folder>    for transformers, and what reads its files
    {this} checkpoint=out/<run> format=gguf out=<new>.gguf    for llama.cpp, and what is built on it
    {this} checkpoint=out/<run> format=onnx out=<new folder>  for onnxruntime, whole sequences without a cache
    """
    from minigpt.exchange.exporting import export

    export(config)
