"""What a component costs, in counts: parameters, matrix products, operations, bytes of state. Never a picojoule.

A component is given a :class:`Work` (what one call is asked to do) and answers with a :class:`Cost`. Costs form a tree
that mirrors the modules; every total is the sum of its parts. Hardware turns counts into time, energy and area
elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from minigpt.formats import weight_format

_NAMES = "add sub mul div max cmp exp exp2 log sqrt rsqrt recip tanh erf sin cos lut round abs neg select"
OPERATIONS = frozenset(_NAMES.split())
"""Scalar operations a component may count beside matrix products. ``sub`` costs as ``add``, ``cmp`` is one comparison
(also a relu), ``lut`` one table read, ``select`` one choice between two ready values."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one call is asked to do.

    batch: sequences. tokens: new tokens per sequence in this call. context: keys the last token may see, itself
    included (prefill from nothing: context == tokens; decode: tokens == 1). dense: count masked positions too, as torch
    computes them (T x S), instead of only the visible pairs. cache_bits: width of one cached element of the model's
    working format. last_only: only the last token's logits are wanted. given_rows, given_elements: what :meth:`over`
    was told, for parts whose input is not one row per token; 0 is a number like any other. input_bits: what :meth:`fed`
    was told.
    """

    batch: int
    tokens: int
    context: int
    dense: bool = False
    cache_bits: int = 16
    last_only: bool = False
    given_rows: int | None = None
    given_elements: int | None = None
    input_bits: int | None = None

    def __post_init__(self):
        if self.context < self.tokens:
            raise ValueError(f"context {self.context} must hold the {self.tokens} new tokens too")

    @property
    def all_tokens(self) -> int:
        return self.batch * self.tokens

    @property
    def rows(self) -> int:
        """Rows that a row-wise part (softmax, norm) goes through; an error when its owner did not say."""
        return self._given("rows", self.given_rows)

    @property
    def elements(self) -> int:
        """Elements in all rows, for a row-wise or element-wise part; an error when its owner did not say."""
        return self._given("elements", self.given_elements)

    def pairs(self, window: int | None = None) -> int:
        """(query, key) pairs of one sequence: causal, at most ``window`` keys per query; or all of them when dense."""
        if self.dense:
            return self.tokens * self.context
        past = self.context - self.tokens
        limit = self.context if window is None else min(window, self.context)
        growing = max(0, min(self.tokens, limit - past))  # queries that see fewer than `limit` keys, or just reach it
        seen_growing = growing * past + growing * (growing + 1) // 2
        return seen_growing + (self.tokens - growing) * limit

    def over(self, rows: int, elements: int) -> Work:
        """The same call, seen by a row-wise or element-wise part."""
        return dataclasses.replace(self, given_rows=rows, given_elements=elements)

    def fed(self, bits: int | None) -> Work:
        """The same call, seen by a linear map whose input was rounded to whole numbers of ``bits`` bits, if any."""
        return dataclasses.replace(self, input_bits=bits)

    def _given(self, what: str, count: int | None) -> int:
        if count is None:
            raise ValueError(
                f"{what} of this call were not given: the owner of a row-wise or element-wise part prices it with "
                "part.cost(work.over(rows, elements))"
            )
        return count


@dataclasses.dataclass(frozen=True)
class Matmul:
    """``repeat`` matrix products (m x k) @ (k x n).

    useful: multiply-accumulates that count, when masks make it fewer than repeat m k n (causal attention).
    weight_format: the format of the k x n operand when it is a weight, see :mod:`minigpt.formats` ("native": the
    machine's own; "int4/g128"; "ternary": a multiply-accumulate is an add); None when both operands are activations.
    left_bits: width that the m x k operand was rounded to, as whole numbers. right_bits, result_bits: width of an
    element of the k x n operand or of the result where it belongs to a cache or state. None: a weight, or an activation
    of the machine's width.
    """

    m: int
    k: int
    n: int
    repeat: int = 1
    useful: int | None = None
    weight_format: str | None = "native"
    left_bits: int | None = None
    right_bits: int | None = None
    result_bits: int | None = None

    def __post_init__(self):
        if self.weight_format is not None:
            weight_format(self.weight_format)

    @property
    def macs(self) -> int:
        return self.repeat * self.m * self.k * self.n if self.useful is None else self.useful


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a component does itself, and, by name in ``parts``, what its children do.

    params: parameters owned (a shared one is counted by its owner). narrow_params: weight format -> how many of them
    the hardware keeps in it instead of its native one. weights_read: weight format -> weights fetched per call; the
    scales of a format are part of it, see :mod:`minigpt.formats`. matmuls: matrix products. ops: operation -> count,
    see OPERATIONS. state_bits: memory of the cache or state at this context, whole batch; state_read_bits,
    state_written_bits: its traffic in this call. activations: activation elements in and out of this component when it
    runs as one fused kernel. reductions: row-wide reductions that must finish before the row's first result. passes:
    times a row is walked. The attributes are the component's own; :attr:`total` adds the parts.
    """

    params: int = 0
    narrow_params: Mapping[str, int] = dataclasses.field(default_factory=dict)
    weights_read: Mapping[str, int] = dataclasses.field(default_factory=dict)
    matmuls: tuple[Matmul, ...] = ()
    ops: Mapping[str, int] = dataclasses.field(default_factory=dict)
    state_bits: int = 0
    state_read_bits: int = 0
    state_written_bits: int = 0
    activations: int = 0
    reductions: int = 0
    passes: int = 0
    parts: Mapping[str, Cost] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        unknown = set(self.ops) - OPERATIONS
        if unknown:
            raise ValueError(f"unknown operations {sorted(unknown)}; count in {sorted(OPERATIONS)}")
        for name in (*self.narrow_params, *self.weights_read):
            weight_format(name)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of this component and its parts."""
        return sum(m.macs for m in self.matmuls) + sum(p.macs for p in self.parts.values())

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products: 2 per multiply-accumulate."""
        return 2 * self.macs

    @property
    def total(self) -> Cost:
        """One flat Cost that sums this component and all its parts; reductions and passes add up along the way."""
        return add_up(own for _, own in self.walk())

    def walk(self, path: str = "") -> Iterator[tuple[str, Cost]]:
        """(path, own cost without parts) of this component and everything below it, depth first."""
        yield path, dataclasses.replace(self, parts={})
        for name, part in self.parts.items():
            yield from part.walk(f"{path}.{name}" if path else name)


def without_params(cost: Cost) -> Cost:
    """The same work on parameters that another place owns: a repeated module reads them, but is not counted again."""
    parts = {name: without_params(part) for name, part in cost.parts.items()}
    return dataclasses.replace(cost, params=0, narrow_params={}, parts=parts)


def add_up(costs: Iterator[Cost]) -> Cost:
    """Sum flat costs. matmuls are concatenated, every count is added."""
    numbers: Counter[str] = Counter()
    narrow, weights_read, ops = Counter[str](), Counter[str](), Counter[str]()
    matmuls: list[Matmul] = []
    names = [f.name for f in dataclasses.fields(Cost) if f.type == "int"]
    for cost in costs:
        numbers.update({name: getattr(cost, name) for name in names})
        narrow.update(cost.narrow_params)
        weights_read.update(cost.weights_read)
        ops.update(cost.ops)
        matmuls.extend(cost.matmuls)
    flat = Cost(narrow_params=dict(narrow), weights_read=dict(weights_read), ops=dict(ops), matmuls=tuple(matmuls))
    totals: dict[str, Any] = dict(numbers)
    return dataclasses.replace(flat, **totals)
