"""Whether weights really are of the format a cost says they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minigpt.components.linear.base import LinearMap
from minigpt.cost import Cost
from minigpt.formats import WeightFormat, weight_format

_CODE = 0.01  # how far from a whole code a value may be


def claimed_formats(cost: Cost) -> set[str]:
    """Formats other than the machine's own in what a part says of itself."""
    products = {product.weight_format for product in cost.matmuls if product.weight_format is not None}
    return {*cost.weights_read, *cost.narrow_params, *products} - {"native"}


def holds_format(part: Any, name: str) -> str:
    """Why the weights of a part are not of this format; nothing if they are."""
    if not hasattr(part, "effective_weight"):
        return "it has no effective_weight() to look at"
    with torch.no_grad():
        weight = part.effective_weight().float()
        if isinstance(part, LinearMap):
            bias = 0 if part.bias is None else part.bias
            used = (part(torch.eye(part.in_features, dtype=part.weight.dtype)) - bias).T
            if (used - weight).abs().max() > 1e-2 * weight.abs().max():
                return "the weight it multiplies with is not its effective_weight()"
        return _misfit(weight, weight_format(name))


def _misfit(weight: Tensor, fmt: WeightFormat) -> str:
    """weight: (out, in); weights that share a scale lie side by side in a row, without groups it is all of them."""
    if fmt.kind == "float":
        return "" if any(torch.equal(weight.to(t).float(), weight) for t in _FLOATS[fmt.name]) else "they are wider"
    groups = weight.reshape(1, -1) if fmt.group is None else weight.reshape(-1, min(fmt.group, weight.numel()))
    groups = groups[(groups != 0).any(dim=1)]
    codes = groups / groups.abs().amax(dim=1, keepdim=True)  # -1 to 1
    if fmt.kind == "sign":
        levels = torch.tensor([-1.0, 1.0] if "binary" in fmt.name else [-1.0, 0.0, 1.0])
        off = (codes[..., None] - levels).abs().amin(dim=-1) > _CODE
        return f"{off.float().mean():.0%} are none of {levels.int().tolist()} times a scale" if off.any() else ""
    if fmt.kind == "table":
        found = len(torch.unique((codes / _CODE).round()))
        return f"they have {found} levels" if found > 2 ** int(fmt.code_bits or 0) else ""
    on_grid = all(_is_integer(row, int(fmt.code_bits or 0), fmt.affine) for row in codes)
    return "" if on_grid else "a group is on no grid of so few"


def _is_integer(row: Tensor, bits: int, affine: bool) -> bool:
    """Whether -1 to 1 is some whole number of steps, at most half the codes, and every value a whole step; with a zero
    point all codes may lie to one side of 0."""
    if bits > 8:
        return True  # so fine a grid holds anything
    most = 2**bits - 1 if affine else 2 ** (bits - 1)
    steps = torch.arange(1, most + 1)[:, None] * row  # (steps of the largest, weights)
    reach = steps.amax(dim=1).clamp_min(0) - steps.amin(dim=1).clamp_max(0)
    fits = (reach <= 2**bits - 1 + _CODE) if affine else torch.ones(most, dtype=torch.bool)
    return bool((((steps - steps.round()).abs() <= _CODE).all(dim=1) & fits).any())


_FLOATS = {
    "fp32": (torch.float32,),
    "fp16": (torch.float16,),
    "bf16": (torch.bfloat16,),
    "fp8": (torch.float8_e4m3fn, torch.float8_e5m2),
}
