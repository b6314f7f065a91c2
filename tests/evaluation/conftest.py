"""One harness, one GPT-2-shaped model with a byte-pair tokenizer in our form and in theirs, and a folder of tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from minigpt.data.bpe import train_bpe
from minigpt.exchange.trained import TrainedModel, load_trained
from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint
from minigpt.testing import make_spec

GPT2 = {"position": "learned", "norm": "layernorm", "mlp": "mlp", "activation": "gelu_tanh", "bias": True}
TEXT = (
    "The keys of a dictionary can be of any type that is hashable. A list is not, as it may be changed in place. "
    "To sort the items of a mapping, call sorted with a key. Iterating over it gives the keys in the order in which "
    "they were put in. Removing one and putting it back moves it to the end. "
) * 8


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory):
    """Nothing is left in, or taken from, the caches of who runs the tests."""
    import datasets.config

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        yield


def random_gpt(vocab_size: int, block_size: int = 48, **parts) -> GPT:
    """A model whose answers differ from token to token."""
    model = GPT.create(make_spec(vocab_size=vocab_size, block_size=block_size, **parts)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """The folder of a GPT-2-shaped model with a byte-pair tokenizer, its weights random."""
    tokenizer = train_bpe([TEXT], 330)
    folder = tmp_path_factory.mktemp("gpt2") / "ours"
    save_checkpoint(folder, random_gpt(tokenizer.vocab_size, **GPT2), tokenizer=tokenizer.to_json(), meta={"step": 1})
    return folder


@pytest.fixture(scope="session")
def trained(checkpoint) -> TrainedModel:
    return load_trained(checkpoint)


@pytest.fixture(scope="session")
def exported(checkpoint) -> Path:
    """The same in a folder that transformers opens."""
    from minigpt.exchange.exporting import export_hf
    from minigpt.exchange.opened import open_model

    folder = checkpoint.parent / "theirs"
    export_hf(open_model(str(checkpoint)), folder)
    return folder


QUESTIONS = [
    {"context": "The keys of a dictionary can be", "choices": ["of any type", "a list", "the end of a mapping"]},
    {"context": "A list is not, as it may be", "choices": ["changed in place", "sorted", "put in the order"]},
    {"context": "Iterating over it gives ", "choices": ["the keys", "a mapping that is hashable", "one"]},
    {"context": "To sort the items of a mapping, call sorted with a key. " * 6, "choices": ["the", "in", "a"]},
    {"context": "A B or C?", "choices": ["A", "B", "C"]},
]
TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "pairs": {
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    },
    "word": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{' ' + choices[0]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{context * 3}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "byte_perplexity"}],
    },
    "answer": {
        "output_type": "generate_until",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["e", "\n\n"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="session")
def tasks(tmp_path_factory) -> Path:
    """A folder with a task of every kind, on the same few questions, and a group of all."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "questions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in QUESTIONS))
    for name, task in TASKS.items():
        data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "questions.jsonl"}}}
        content = {"task": f"my_{name}", "test_split": "test"} | data | task
        (folder / f"{name}.yaml").write_text(json.dumps(content))
    (folder / "all.yaml").write_text(json.dumps({"group": "mine", "task": [f"my_{name}" for name in TASKS]}))
    return folder
