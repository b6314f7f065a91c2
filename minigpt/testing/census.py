"""The census: what one forward really dispatches, to hold a claimed cost to.

Every tensor is followed from where it comes: what derives from parameters and buffers alone is a constant of the model,
computed once, so only what depends on the tokens or their places is counted. Each operation is decomposed to scalar
ones per element.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minigpt.components.base import Part
from minigpt.model import GPT

aten = torch.ops.aten
_FUSED = [
    aten._softmax, aten._log_softmax, aten.native_layer_norm, aten.gelu, aten.silu, aten._fused_rms_norm, aten.elu,
    aten.softplus, aten.leaky_relu, aten.hardtanh, aten.mish, aten.logsumexp, aten.celu, aten.hardswish,
    aten.hardsigmoid, aten.softshrink, aten._prelu_kernel, aten.native_group_norm, aten.log_sigmoid_forward,
]  # fmt: skip


@functools.cache
def _decompositions() -> dict[Any, Callable]:
    return core_aten_decompositions() | get_decompositions(_FUSED)


ELEMENTWISE = {
    "add": "add", "sub": "add", "rsub": "add", "mul": "mul", "div": "mul", "exp": "exp", "exp2": "exp2",
    "expm1": "exp", "log": "log", "log2": "log", "log1p": "log", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "reciprocal": "recip", "tanh": "tanh", "erf": "erf", "sin": "sin", "cos": "cos", "relu": "cmp", "clamp": "cmp",
    "clamp_min": "cmp", "clamp_max": "cmp", "maximum": "max", "minimum": "max", "ceil": "round", "floor": "round",
    "round": "round", "trunc": "round", "abs": "abs", "sigmoid": "sigmoid", "pow": "mul", "neg": "neg", "acos": "lut",
    "where": "select", "sign": "cmp", "eq": "cmp", "ne": "cmp", "lt": "cmp", "le": "cmp", "gt": "cmp", "ge": "cmp",
    "fmod": "mul", "remainder": "mul", "true_divide": "mul",
}  # fmt: skip
"""aten operation -> what one element of its result costs. A division is a multiplication: whoever takes the reciprocal
once per row says so in ``hardware_form``."""
COMPOSED = {"lerp": {"add": 2, "mul": 1}, "addcmul": {"add": 1, "mul": 1}, "addcdiv": {"add": 1, "mul": 1}}
"""aten operation -> what one element of its result costs, of several kinds."""
REDUCTIONS = {
    "amax": "max", "amin": "max", "max": "max", "min": "max", "argmax": "max", "sum": "add", "mean": "add",
    "cumsum": "add", "prod": "mul", "cumprod": "mul", "topk": "max", "sort": "max", "index_add": "add",
    "scatter_add": "add", "scatter_reduce": "add", "cummax": "max",
}  # fmt: skip
"""aten operation -> what one element of its input costs."""
SEARCHES = {"bucketize": 1, "searchsorted": 0}
"""aten operation -> which argument is the sorted one: a binary search compares log2 of its length times."""
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "convolution", "mv", "dot"}
FREE = {
    "clone", "copy", "_to_copy", "cat", "stack", "constant_pad_nd", "embedding", "index", "index_select", "gather",
    "scatter", "index_put", "full", "empty", "zeros", "ones", "full_like", "empty_like", "zeros_like", "ones_like",
    "new_empty", "new_zeros", "new_full", "new_ones", "arange", "fill", "zero", "isneginf", "isinf", "isnan", "tril",
    "triu", "masked_fill", "lift_fresh", "repeat", "repeat_interleave", "flip", "roll", "scalar_tensor", "one_hot",
    "nonzero", "bincount", "_local_scalar_dense", "empty_strided", "select_scatter", "slice_scatter", "item",
    "_unsafe_index", "linspace", "eye", "bernoulli", "native_dropout", "lift", "masked_scatter", "index_copy",
    "resolve_conj", "nan_to_num", "set_", "_unsafe_view",
}  # fmt: skip
"""Moves and makes numbers; a mask is no arithmetic either."""
_COUNTED = {*ELEMENTWISE, *COMPOSED, *REDUCTIONS, *SEARCHES, *FREE}
RANDOM = {
    "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "bernoulli", "native_dropout",
    "normal", "uniform", "multinomial", "exponential", "random", "log_normal", "cauchy", "geometric", "poisson",
}  # fmt: skip


class Trace(TorchDispatchMode):
    """Follows one forward.

    ops: part -> operation -> count. products: parts that multiply matrices. drawn: (part, operation, values) of random
    numbers. strangers: (part, shape) of tensors that come from nowhere. unknown: operations it cannot count. "" is the
    model itself, "outside" what calls it.
    """

    def __init__(self, model: GPT, *given: Tensor):
        super().__init__()
        self.ops: dict[str, Counter[str]] = defaultdict(Counter)
        self._looked_up = 0
        self._used = 0
        self.products: set[str] = set()
        self.drawn: list[tuple[str, str, Tensor]] = []
        self.strangers: list[tuple[str, str]] = []
        self.unknown: set[str] = set()
        self.within = [""]
        self._crossing: dict[tuple[str, str, int], dict[Any, int]] = defaultdict(dict)
        kept = model.state_dict(keep_vars=True).values()  # parameters, and buffers that are no tables
        self._weights = {_storage(w): torch.zeros(w.numel(), dtype=torch.bool) for w in kept}
        pooled = [
            m for part in model.modules() if isinstance(part, Part) and part.pooled for m in getattr(part, part.pooled)
        ]
        self._choices = {_storage(w) for module in pooled for w in module.state_dict(keep_vars=True).values()}
        self._origin = {_storage(t): "outside" for t in given}
        axes = {name: getattr(module, "axis", "linear") for name, module in model.named_modules()}
        self._parts = {name for name, module in model.named_modules() if isinstance(module, Part)}
        self._streaming = {name for name, axis in axes.items() if axis != "linear"}
        self._known = {_storage(t) for t in [*model.buffers(), *model.parameters(), *given]}
        self._alive: list[Any] = list(given)
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = _plain(func)
        if name not in _COUNTED and func in _decompositions():
            with self:
                result = _decompositions()[func](*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        outputs = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        self._alive += outputs
        self._look_at_sources(name, inputs)
        if name in RANDOM:
            self.drawn += [(self.within[-1] or "the model", name, t.detach().clone()) for t in outputs[:1]]
        depends = name == "arange" or any(_storage(t) in self._origin for t in inputs)
        if func.is_view:
            for output in outputs:  # in memory of its own, where contiguous and reshape had to copy
                self._known.add(_storage(output))
                if depends:
                    self._origin.setdefault(_storage(output), self.within[-1])
            return result
        self._read_weights(name, inputs, outputs)
        if depends:
            self._count(name, inputs, outputs)
            self._cross(inputs)
        for output in outputs:
            self._known.add(_storage(output))
            if depends:
                self._origin.setdefault(_storage(output), self.within[-1])
        return result

    @property
    def total(self) -> Counter[str]:
        return sum(self.ops.values(), Counter())

    @property
    def weights_read(self) -> tuple[int, int]:
        """Elements of weights that were used, at least (all of them once) and at most (once per operation); rows of
        a table as often as they were looked up. At most, too, those that a pool would have used for other tokens."""
        once = sum(int(mask.sum()) for mask in self._weights.values())
        idle = sum(len(mask) for w, mask in self._weights.items() if w in self._choices and not mask.any())
        return self._looked_up + once, self._looked_up + max(once, self._used) + idle

    def exchanged(self, part: str, *, streams: bool = False) -> int:
        """Elements that a part takes in and hands out, each tensor once.

        What streams between a part that multiplies matrices and a child that is no linear map (a softmax, a rotation)
        shares a kernel with the products: it is the child's, and the part's own only with ``streams``.
        """
        taken: dict[int, dict[Any, int]] = defaultdict(dict)
        given: dict[int, dict[Any, int]] = defaultdict(dict)
        for (origin, user, storage), views in self._crossing.items():
            other = user if origin == part else origin
            if part in (origin, user) and (streams or not self._shares_kernel(part, other)):
                (given if origin == part else taken)[storage].update(views)
        return sum(self._elements(s, views) for side in (taken, given) for s, views in side.items())

    def hand_out(self, output: Tensor) -> None:
        """The model's answer leaves it."""
        self.within.append("outside")
        self._cross([output])
        self.within.pop()

    def _shares_kernel(self, part: str, other: str) -> bool:
        is_child = self._owner(other) == part and other in self._streaming
        return is_child and part in self.products

    def _owner(self, path: str) -> str:
        """The part that a part belongs to: the nearest around it, a list or a dictionary between them is none."""
        above = path.rpartition(".")[0]
        return above if not above or above in self._parts else self._owner(above)

    def _elements(self, storage: int, views: dict[Any, int]) -> int:
        return min(sum(views.values()), self._sizes[storage])

    def _look_at_sources(self, name: str, inputs: list[Tensor]) -> None:
        for tensor in inputs:
            if _storage(tensor) not in self._known and tensor.numel() > 1:
                self.strangers.append((self.within[-1] or "the model", f"tensor of shape {tuple(tensor.shape)}"))
                self._known.add(_storage(tensor))

    def _read_weights(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        for tensor in inputs:
            mask = self._weights.get(_storage(tensor))
            if mask is None:
                continue
            if name in ("embedding", "index", "index_select", "gather"):
                self._looked_up += outputs[0].numel()
            else:
                self._used += tensor.numel()
                mask.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)

    def _count(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        counted, region = self.ops[self.within[-1]], self.within[-1]
        if name in PRODUCTS:
            self.products.add(region)
            if name in ("addmm", "baddbmm") or (name == "convolution" and len(inputs) > 2):
                counted["add"] += outputs[0].numel()
        elif not outputs[0].ndim or not any(t.is_floating_point() for t in (*inputs, *outputs)):
            return  # a figure of the whole batch; indices and masks
        elif name == "linalg_solve_triangular":  # of a diagonal of ones: row t takes off what t rows before it are
            each = outputs[0].numel() * (outputs[0].shape[-2] - 1) // 2
            counted.update({"mul": each, "add": each})
        elif name in REDUCTIONS:
            counted[REDUCTIONS[name]] += inputs[-1 if name in ("index_add", "scatter_add") else 0].numel()
            if name == "mean":
                counted["mul"] += outputs[0].numel()
        elif name == "var_mean":  # two walks: sum; subtract, square, sum; and one scaling each
            n = inputs[0].numel()
            counted.update({"add": 3 * n, "mul": n + 2 * outputs[0].numel()})
        elif name == "linalg_vector_norm":  # of length 2: square, sum, one root
            n = inputs[0].numel()
            counted.update({"mul": n, "add": n, "sqrt": outputs[0].numel()})
        elif name in ELEMENTWISE:
            counted[ELEMENTWISE[name]] += outputs[0].numel()
        elif name in SEARCHES:  # of n places to end in, one more than there are bounds
            counted["cmp"] += outputs[0].numel() * inputs[SEARCHES[name]].shape[-1].bit_length()
        elif name in COMPOSED:
            counted.update({op: n * outputs[0].numel() for op, n in COMPOSED[name].items()})
        elif name not in FREE and name not in RANDOM:
            self.unknown.add(name)

    def _cross(self, inputs: list[Tensor]) -> None:
        for tensor in inputs:
            storage, here = _storage(tensor), self.within[-1]
            origin = self._origin.get(storage)
            if origin is not None and origin != here and tensor.is_floating_point():
                view = (tensor.storage_offset(), tensor.shape, tensor.stride())
                self._crossing[origin, here, storage][view] = _distinct(tensor)
                self._sizes[storage] = tensor.untyped_storage().nbytes() // tensor.itemsize


@contextlib.contextmanager
def followed(model: GPT, *given: Tensor) -> Iterator[Trace]:
    """A trace of what is called inside. Attention takes the path of single operations, on which its softmax is a part
    of its own."""
    trace = Trace(model, *given)
    fused = [part for part in model.modules() if isinstance(part, Part) and getattr(part, "fused", False)]
    for part in fused:
        part.fused = False  # type: ignore[assignment]
    try:
        with told_apart(model, trace.within), trace:
            yield trace
    finally:
        for part in fused:
            del part.fused


@contextlib.contextmanager
def told_apart(model: GPT, within: list[str]) -> Iterator[None]:
    """Every part's methods put its name on top of ``within`` while they run; of pooled ones that of the first."""
    parts = [(name, part) for name, part in model.named_modules() if isinstance(part, Part)]
    pools = [f"{name}.{part.pooled}." for name, part in parts if part.pooled is not None]
    entered = [(name, part, method) for name, part in parts for method in _methods(part)]
    for name, part, method in entered:
        setattr(part, method, _entering(within, _priced_as(name, pools), getattr(part, method)))
    try:
        yield
    finally:
        for _, part, method in entered:
            delattr(part, method)


def _priced_as(name: str, pools: list[str]) -> str:
    """The name under which a part is priced: in a pool, that of the first part's like."""
    for pool in pools:
        if name.startswith(pool):
            _, dot, rest = name.removeprefix(pool).partition(".")
            return f"{pool}0{dot}{rest}"
    return name


_ELSEWHERE = {"init_parameters", "init_buffers", "cost", "own_params", "new_state", "hardware_form", "reset_parameters"}


def _methods(part: Part) -> list[str]:
    """Public methods of a component that compute; one with ``<method>_cost`` beside it is priced where it is called."""
    found = {
        name
        for cls in type(part).__mro__
        if issubclass(cls, Part) and cls is not Part
        for name, value in vars(cls).items()
        if isinstance(value, types.FunctionType) and not name.startswith("_")
    }
    return sorted(n for n in found - _ELSEWHERE if not n.endswith("_cost") and not hasattr(part, f"{n}_cost"))


def _entering(within: list[str], name: str, method: Callable) -> Callable:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        within.append(name)
        try:
            return method(*args, **kwargs)
        finally:
            within.pop()

    return call


def _plain(func: Any) -> str:
    name = func.overloadpacket.__name__
    return name if name.startswith("__") else name.rstrip("_")


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _distinct(tensor: Tensor) -> int:
    """Elements of a tensor, those that an expansion repeats once."""
    n = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        n *= size if stride else min(size, 1)
    return n
