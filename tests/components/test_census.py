"""Operation counts against a census: what torch really dispatches, decomposed to single operations per element.

Where a component counts a hardware form instead of torch's, the difference is stated here, operation by operation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from minigpt import registry
from minigpt.cost import Work
from tests.components.test_references import part, values

aten = torch.ops.aten
FUSED = [aten._softmax, aten.native_layer_norm, aten.gelu, aten.silu, aten._fused_rms_norm]
DECOMPOSITIONS = core_aten_decompositions() | get_decompositions(FUSED)
ROWS, WIDTH = 6, 32  # a row is one token of 32 channels, or one query's 32 scores
ELEMENTS = ROWS * WIDTH

# aten operation -> what one element of its output (or, for a reduction, of its input) costs
ELEMENTWISE = {
    "add": "add", "sub": "add", "mul": "mul", "div": "mul", "exp": "exp", "exp2": "exp2", "rsqrt": "rsqrt",
    "reciprocal": "recip", "tanh": "tanh", "erf": "erf", "relu": "cmp", "ceil": "round", "round": "round", "abs": "abs",
    "sigmoid": "sigmoid", "pow": "mul", "neg": "neg", "where": "select", "eq": "cmp", "logical_not": "neg",
}  # fmt: skip
REDUCTIONS = {"amax": "max", "sum": "add", "mean": "add"}
FREE = {"view", "expand", "detach", "alias", "clone", "squeeze", "unsqueeze", "_to_copy", "isneginf", "full", "empty"}


class Census(TorchDispatchMode):
    """Counts scalar operations by kind. Operations on one value per row count as such: they are small, not free."""

    def __init__(self):
        super().__init__()
        self.ops: Counter[str] = Counter()

    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if name in REDUCTIONS:
            self.ops[REDUCTIONS[name]] += args[0].numel()
            if name == "mean":
                self.ops["mul"] += result.numel()
        elif name == "var_mean":  # two walks: sum; subtract, square, sum; and one scaling each
            n = args[0].numel()
            self.ops.update({"add": 3 * n, "mul": n + 2 * result[0].numel()})
        elif name in ELEMENTWISE:
            self.ops[ELEMENTWISE[name]] += result.numel()
        elif name not in FREE:
            raise AssertionError(f"the census does not know {name}")
        return result


def census(component: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Counter[str]:
    with torch.no_grad():
        graph = make_fx(component, decomposition_table=DECOMPOSITIONS)(*inputs)
        with Census() as counted:
            graph(*inputs)
    return counted.ops


def counted_by_cost(component: torch.nn.Module) -> Counter[str]:
    """Cost with kinds that torch does not tell apart merged: a subtraction is an addition."""
    ops = Counter(component.cost(Work(1, ROWS, ROWS).over(ROWS, ELEMENTS)).ops)
    ops["add"] += ops.pop("sub", 0)
    return +ops


N, R = ELEMENTS, ROWS
# What torch's form has more (+) or less (-) than the hardware form that cost() counts, and why.
STATED = {
    # A division by the row's sum is one reciprocal per row and a multiply per element.
    "softmax=softmax": {"recip": -R},
    "softmax=softermax": {"recip": -R},
    # exp as two table reads and a product, both constants folded in; torch subtracts them (their sum is one addition).
    "softmax=consmax": {"exp": N, "add": N + 1, "lut": -2 * N, "mul": -N},
    # A constant divisor folds into the value projection.
    "softmax=relumax": {"mul": N},
    # eps is added once per row, and the mean is one scaling per row.
    "norm=rmsnorm": {"add": R, "mul": R},
    # torch centres x twice (for variance and result); mean and variance are scaled, eps is added, once per row.
    "norm=layernorm": {"add": N + R, "mul": 2 * R},
    # x^3 and both constants multiplied out, where hardware nests them and folds the half into the next matrix.
    "activation=gelu_tanh": {"mul": 2 * N},
    # x * sigmoid(x), with the sigmoid as one operation.
    "activation=silu": {"sigmoid": N, "exp": -N, "add": -N, "recip": -N},
}
POINTWISE_AXES = ("softmax", "norm", "activation", "residual")


@pytest.mark.parametrize("name", [f"{axis}={name}" for axis in POINTWISE_AXES for name in registry.names(axis)])
def test_cost_counts_the_operations_torch_dispatches_up_to_what_is_stated(name):
    axis, variant = name.split("=")
    component = part(axis, variant)
    x = values(1, 1, ROWS, WIDTH) if axis == "softmax" else values(ROWS, WIDTH)
    inputs = (x, x + 1) if axis == "residual" else (x,)
    found = census((lambda x, y: component.write(x, y)) if axis == "residual" else component, *inputs)
    found.subtract(counted_by_cost(component))
    assert {op: count for op, count in found.items() if count} == STATED.get(name, {})


def test_softmax_is_one_of_each_per_element_and_consmax_reduces_nothing():
    found = census(part("softmax", "softmax"), values(1, 1, ROWS, WIDTH))
    assert found == {"max": N, "add": 2 * N, "exp": N, "mul": N}  # amax; sub and sum; exp; div
    found = census(part("softmax", "consmax"), values(1, 1, ROWS, WIDTH))
    assert "max" not in found
    for softmax in registry.names("softmax"):
        component = part("softmax", softmax)
        assert component.cost(Work(1, ROWS, ROWS).over(ROWS, ELEMENTS)).reductions == component.reductions
