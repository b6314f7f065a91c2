"""llama.cpp, by whichever of its two Python packages is installed, choosing the likeliest token again and again."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

LIMIT = 64
"""Tokens of context it is given."""


def _llama_cpp(file: Path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    f32 = llama_cpp.GGML_TYPE_F32
    return llama_cpp.Llama(
        str(file), n_ctx=LIMIT, logits_all=True, n_threads=1, n_batch=LIMIT, type_k=f32, type_v=f32, verbose=False
    )


def llama_cpp_logits(file: Path, tokens: list[int]) -> np.ndarray:
    """(T, vocab_size) after each token, with keys and values kept in f32."""
    llama = _llama_cpp(file)
    llama.eval(tokens)
    return np.array(llama.scores[: len(tokens)])


def llama_cpp_greedy(file: Path, tokens: list[int], count: int) -> list[int]:
    llama, chosen = _llama_cpp(file), []
    llama.eval(tokens)
    for _ in range(count):
        chosen.append(int(np.argmax(llama.scores[llama.n_tokens - 1])))
        llama.eval(chosen[-1:])
    return chosen


def llama_cpp_tokens(file: Path, text: str) -> list[int]:
    return list(_llama_cpp(file).tokenize(text.encode(), add_bos=False, special=False))


def xllamacpp_greedy(file: Path, tokens: list[int], count: int) -> list[int]:
    """Through llama.cpp's server, which says what it took by text: one token is asked for at a time."""
    server = _server(file)
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(_likeliest(server, [*tokens, *chosen])[1][0][0])
    return chosen


def xllamacpp_next(file: Path, prompt: str | list[int]) -> tuple[int, list[tuple[int, float]]]:
    """How many tokens a prompt has there, and the three likeliest next ones."""
    return _likeliest(_server(file), prompt)


def _likeliest(server, prompt: str | list[int]) -> tuple[int, list[tuple[int, float]]]:
    asked = {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": 3}
    answer = server.handle_completions(asked)
    best = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return answer["usage"]["prompt_tokens"], [(each["id"], each["logprob"]) for each in best]


def _server(file: Path):
    xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    options = xllamacpp.CommonParams()
    options.model.path = str(file)
    options.n_ctx, options.n_parallel, options.warmup, options.verbosity = LIMIT, 1, False, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(options)


ENGINES = {"llama_cpp": llama_cpp_greedy, "xllamacpp": xllamacpp_greedy}


def greedy(engine: str, file: Path, tokens: list[int], count: int) -> list[int]:
    """The tokens an engine continues with; the test is skipped, saying so, where it is not installed."""
    try:
        importlib.import_module(engine)
    except ImportError as error:
        pytest.skip(f"{engine} is not installed ({error})")
    return ENGINES[engine](file, tokens, count)
