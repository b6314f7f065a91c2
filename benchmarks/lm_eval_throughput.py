"""Requests per second of our class and of the harness's ``hf`` class, the same weights and requests, on a CPU.

    python -m benchmarks.lm_eval_throughput [shape=small|gpt2] [limit=40] [turns=3] [batch=16]

Kinds of requests, from the held-out part of the built-in text: endings (four of some 20 tokens after one context of
some 100, as hellaswag asks), answers (four of one token, as MMLU asks), words (one after its context, as LAMBADA asks),
pairs (two whole sentences, as BLiMP asks) and text (rolling). The contenders take turns and must agree; seconds are the
processor's, so that other programs matter little. Needs accelerate and transformers.
"""

from __future__ import annotations

import functools
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from minigpt.data.bpe import train_bpe
from minigpt.data.recipe import load_recipe
from minigpt.evaluation import builtin
from minigpt.exchange.exporting import export_hf
from minigpt.exchange.opened import open_model
from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint
from minigpt.testing import make_spec

SHAPES = {
    "small": {"n_layer": 4, "d_model": 256, "n_head": 4, "block_size": 256, "vocab_size": 4096},
    "gpt2": {"n_layer": 12, "d_model": 768, "n_head": 12, "block_size": 1024, "vocab_size": 50257},
}
PARTS = {"position": "learned", "norm": "layernorm", "mlp": "mlp", "activation": "gelu_tanh", "bias": True}


def requests(text: str, limit: int) -> dict[str, list[tuple[str, ...]]]:
    """Kind -> arguments of requests."""
    cut = int(len(text) * (1 - builtin.HELD_OUT))
    passages = builtin.passages(text[cut:])
    wide = [passage for passage in passages if len(passage) > 480][:limit]
    starts = list(range(0, 80 * len(wide), 80))
    endings = [
        (passage[:400], " " + text[start : start + 80].strip())
        for i, passage in enumerate(wide)
        for start in (starts[i], starts[i - 1], starts[i - 2], starts[i - 3])
    ]
    answers = [(f"{passage[:400]}\nAnswer:", f" {letter}") for passage in wide for letter in "ABCD"]
    words = [(each["context"], f" {each['word']}") for each in builtin.words(text[:cut], text[cut:])]
    words = list({context[:24]: (context, word) for context, word in words}.values())[: 4 * limit]  # one of a sentence
    pairs = [("", pair[kind]) for pair in list(builtin.pairs(text[cut:]))[: 2 * limit] for kind in ("good", "bad")]
    return {
        "endings": endings,
        "answers": answers,
        "words": words,
        "pairs": pairs,
        "text": [(p,) for p in passages[: 2 * limit]],
    }


def ask(lm: Any, kind: str, arguments: Sequence[tuple[str, ...]]) -> list[float]:
    from lm_eval.api.instance import Instance

    method = "loglikelihood_rolling" if kind == "text" else "loglikelihood"
    asked = [Instance(method, {}, each, i) for i, each in enumerate(arguments)]
    found = getattr(lm, method)(asked, disable_tqdm=True)
    return [float(each if kind == "text" else each[0]) for each in found]


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = call()
    return time.process_time() - began, result


def main(shape: str = "small", limit: int = 40, turns: int = 3, batch: int = 16) -> None:
    import tqdm
    from lm_eval.models.huggingface import HFLM

    from minigpt.evaluation.model import MiniGPTLM

    tqdm.tqdm.__init__ = functools.partialmethod(tqdm.tqdm.__init__, disable=True)
    logging.disable(logging.WARNING)
    text = load_recipe("pydocs").documents()[0]
    tokenizer = train_bpe([text], 4096)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        save_checkpoint(
            ours, GPT.create(make_spec(**SHAPES[shape], **PARTS)), tokenizer=tokenizer.to_json(), meta={"step": 0}
        )
        export_hf(open_model(str(ours)), theirs)
        contenders = {
            "hf": HFLM(pretrained=str(theirs), device="cpu", dtype="float32", batch_size=batch),
            "minigpt": MiniGPTLM.create_from_arg_string(f"checkpoint={ours}", {"batch_size": batch, "device": "cpu"}),
            "minigpt, auto": MiniGPTLM.create_from_arg_string(f"checkpoint={ours}", {"device": "cpu"}),
        }
        print(f"{shape}, batch {batch}, {torch.get_num_threads()} threads, median of {turns} turns")
        took: dict[str, float] = dict.fromkeys(contenders, 0.0)
        for kind, arguments in requests(text, limit).items():
            for name, each in compare(kind, arguments, contenders, turns).items():
                took[name] += each
        print("all      " + "  ".join(f"{name} {each:.2f} s ({took['hf'] / each:.2f})" for name, each in took.items()))


def compare(
    kind: str, arguments: Sequence[tuple[str, ...]], contenders: dict[str, Any], turns: int
) -> dict[str, float]:
    """Time one kind of requests and print requests per second; returns the median seconds."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, list[float]] = {}
    for _ in range(turns):
        for name, lm in contenders.items():
            took, answers[name] = seconds(lambda lm=lm: ask(lm, kind, arguments))
            spent[name].append(took)
    for name, found in answers.items():
        torch.testing.assert_close(found, answers["hf"], rtol=1e-4, atol=1e-3, msg=f"{kind}: {name} differs")
    medians = {name: statistics.median(times) for name, times in spent.items()}
    pace = {name: len(arguments) / each for name, each in medians.items()}
    words = "  ".join(f"{name} {each:8.1f} ({each / pace['hf']:.2f})" for name, each in pace.items())
    print(f"{kind:<8} {len(arguments):>4} requests  {words}", flush=True)
    return medians


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    main(given.pop("shape", "small"), **{key: int(value) for key, value in given.items()})
