"""The plain linear map."""

from __future__ import annotations

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Role
from minigpt.components.linear.base import LinearMap
from minigpt.registry import register
from minigpt.schema import options


@register("linear", "linear")
class Linear(LinearMap):
    """y = x W^T + b in the working precision: torch.nn.Linear.  Learns W: (out, in) and b: (out,).

    bias: None is what the place has anyway, mostly ``model.bias``; ``sites.linear.q.bias=true`` is for one place alone,
    such as the biases of queries, keys and values of Qwen2 (Yang et al. 2024, arXiv:2407.10671).
    """

    @options
    class Config:
        bias: bool | None = None

    cases = [{"bias": False}, {"bias": True, "with": {"bias": False}}]

    def __init__(self, config: Config, ctx: BuildContext, in_features: int, out_features: int, role: Role, bias: bool):
        super().__init__(config, ctx, in_features, out_features, role, bias if config.bias is None else config.bias)
