"""A trained model as an ONNX graph, for onnxruntime and what is built on it.

tokens: (B, T) int64 -> logits: (B, T, vocab_size).
Any number of rows and of tokens up to the context goes in; there is no cache, so a step reads the whole context again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minigpt.components.linear.base import LinearMap
from minigpt.components.quantiser.base import Quantiser
from minigpt.data.hf_files import huggingface_config, to_huggingface
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError, shown
from minigpt.exchange.trained import TrainedModel
from minigpt.files import plainly, replace_folder
from minigpt.model import GPT
from minigpt.schema import plain

FILE = "model.onnx"
TOLERANCE = 1e-4
"""How far logits may be off when the graph is tried, times the largest of them where that is more than 1."""
_ROUNDED_TOLERANCE = 0.05  # where a part rounds, a last bit can decide to which side
_LARGEST_IN_ONE_FILE = 1_900_000_000  # bytes; a message of protobuf has at most 2 GiB


def export_onnx(trained: TrainedModel, out: Path) -> list[str]:
    """Write ``out``, a folder that is not there yet; whole or not at all. Returns what a person should know of it.

    ``model.onnx`` is the graph, with its weights (beyond 2 GB they lie beside it), ``tokenizer.json`` the tokenizer as
    Hugging Face's library reads it, or in minigpt's own form where that library cannot follow; ``model.json`` what
    the model is and what is known of its training. Before anything takes its place, onnxruntime has to get the
    model's logits out of the graph.
    Raises UserError for a model that torch cannot export, saying why, and when a package is missing.
    """
    runtime = _packages()
    if out.exists() or out.is_symlink():
        raise UserError(f"out: {out} is there already and is not overwritten. Choose another name")
    model = trained.model.to("cpu", torch.float32)
    program = _graph(model)
    size = 4 * sum(tensor.numel() for tensor in model.state_dict().values())

    def fill(new: Path) -> None:
        program.save(str(new / FILE), external_data=size > _LARGEST_IN_ONE_FILE)
        for name, content in _sidecars(trained).items():
            (new / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        _verify(runtime, model, new / FILE)

    with plainly(out):
        replace_folder(out, fill)
    written = sum(file.stat().st_size for file in out.iterdir())
    return [f"{out / FILE}: {model.parameter_count():,} parameters, {written / 1e6:.1f} MB, tried with onnxruntime"]


def _packages() -> Any:
    """onnxruntime; what torch exports with is asked for, too."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            package = importlib.import_module(name)
        except ImportError:
            raise UserError(f"format=onnx needs the package {name}: pip install 'minigpt[export]'") from None
    return package


class _Logits(nn.Module):
    """What the graph is: tokens in, logits out."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens).logits


def _graph(model: GPT) -> Any:
    limit = model.spec.block_size
    dynamic = {0: torch.export.Dim("batch")}
    if limit > 1:
        dynamic[1] = torch.export.Dim("sequence", max=limit)
    try:
        with _quiet(), torch.no_grad():
            return torch.onnx.export(
                _Logits(model),
                (_tokens(model, 2, limit),),  # the longest: a window is in the graph only where it hides something
                input_names=["tokens"],
                output_names=["logits"],
                dynamic_shapes=(dynamic,),
                custom_translation_table={
                    torch.ops.aten.searchsorted.Tensor: _searchsorted,
                    torch.ops.aten.linalg_solve_triangular.default: _solve_triangular,
                },
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # torch raises whatever its parts do
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise UserError(f"format=onnx: torch cannot export this model: {_first_line(cause)}") from None


def _searchsorted(
    bounds: Any, values: Any, out_int32: bool = False, right: bool = False, side: str | None = None, sorter: None = None
) -> Any:
    """``torch.searchsorted``, which the exporter does not know: how many of a row's bounds are below each value."""
    op: Any = importlib.import_module("onnxscript").opset18
    bounds, values = op.Unsqueeze(bounds, [-2]), op.Unsqueeze(values, [-1])
    passed = op.LessOrEqual(bounds, values) if right or side == "right" else op.Less(bounds, values)
    return op.ReduceSum(op.Cast(passed, to=6 if out_int32 else 7), [-1], keepdims=0)  # 6, 7: int32, int64


def _solve_triangular(a: Any, b: Any, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """``torch.linalg.solve_triangular``, which the exporter does not know, of lower matrices with a diagonal of ones.

    The inverse of twice as large blocks follows from that of the blocks: X - X L X, L what lies below them.
    """
    if upper or not left or not unitriangular:
        raise NotImplementedError("solve_triangular of another form than lower, left and unitriangular")
    op: Any = importlib.import_module("onnxscript").opset18
    size = op.Shape(a, start=-1)
    places = op.CumSum(op.Expand(op.Constant(value_ints=[1]), size), op.Constant(value_int=0))  # 1, 2, ...
    places = op.Sub(places, op.Constant(value_ints=[1]))
    row, column = op.Unsqueeze(places, [1]), op.Unsqueeze(places, [0])
    inverse = op.CastLike(op.Equal(row, column), a)
    known = a.shape[-1] if a.shape is not None else None
    for step in range((known - 1).bit_length() if isinstance(known, int) else 16):
        small, large = op.Constant(value_ints=[2**step]), op.Constant(value_ints=[2 ** (step + 1)])
        together = op.Equal(op.Div(row, large), op.Div(column, large))
        below = op.And(together, op.Greater(op.Div(row, small), op.Div(column, small)))
        inverse = op.Sub(inverse, op.MatMul(op.MatMul(inverse, op.Mul(a, op.CastLike(below, a))), inverse))
    return op.MatMul(inverse, b)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {shown(lines[0], 300) if lines else ''}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context in which the exporter's remarks on itself are kept from the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _tokens(model: GPT, rows: int, length: int) -> Tensor:
    count = torch.arange(rows * length) * 7919  # a large prime: no two alike in a row
    return (count % model.spec.vocab_size).view(rows, length)


def _verify(runtime: Any, model: GPT, file: Path) -> None:
    """Let onnxruntime compute inputs of several sizes. Raises UserError where it gets other logits than the model."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for rows, length in {(1, 1), (3, min(model.spec.block_size, 11)), (1, min(model.spec.block_size, 2048))}:
            tokens = _tokens(model, rows, length)
            with torch.no_grad():
                expected = model(tokens).logits.numpy()
            (found,) = session.run(None, {"tokens": tokens.numpy()})
            _compare(model, found, expected)
    except UserError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise UserError(f"format=onnx: onnxruntime cannot run the graph: {_first_line(error)}") from None


def _compare(model: GPT, found: np.ndarray, expected: np.ndarray) -> None:
    rounds = any(
        (isinstance(part, LinearMap) and part.weight_format != "native")
        or (isinstance(part, Quantiser) and part.bits is not None)
        for part in model.modules()
    )
    allowed = (_ROUNDED_TOLERANCE if rounds else TOLERANCE) * max(1.0, float(np.abs(expected).max()))
    off = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not off <= allowed:
        raise UserError(
            f"format=onnx: the graph's logits are off by {off:.2g}, at most {allowed:.2g} is expected. Nothing was "
            f"written; a part of this model is not exported faithfully"
        )


def _sidecars(trained: TrainedModel) -> dict[str, Any]:
    """File -> its JSON."""
    known = {key: value for key, value in trained.meta.items() if key not in ("files", "roles")}
    about = {
        "model": plain(trained.model.spec),
        "meta": known,
        "context": trained.model.spec.block_size,
        "tokens": trained.tokenizer.vocab_size,
    }
    return {"model.json": about} | _tokenizer_files(trained.tokenizer)


def _tokenizer_files(tokenizer: Tokenizer) -> dict[str, Any]:
    try:
        return {"tokenizer.json": to_huggingface(tokenizer), "tokenizer_config.json": huggingface_config(tokenizer)}
    except UserError:
        return {"tokenizer.json": tokenizer.to_json()}
