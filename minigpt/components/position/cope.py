"""Contextual position encoding: the model chooses what to count."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import Limit, Range, options


@register("position", "cope")
class ContextualPosition(Position):
    """y_ts = s_ts + <q_t, e[p_ts]>, s_ts the score of query t and key s, p_ts the sum of sigmoid(s_tu) over the keys u
    from s to t.

    Golovneva et al. 2024, arXiv:2405.18719. A gate sigmoid(s_tu) says whether token u counts, so p_ts is how many that
    do lie between the two: words, sentences, whatever is learned. Counts are no whole numbers: <q_t, e[p]> is
    interpolated between its neighbours. They end at ``positions`` - 1. As in the paper's code, the gates read the
    scores as the softmax would, scaled and masked, and the query here is not scaled.

    Learns e: (positions, width), one for all heads.
    """

    places = frozenset({"score"})
    reads_scores = True

    @options
    class Config:
        positions: Annotated[int, Range(ge=2), Limit(2**31 - 1)] = 64

    cases = [{"positions": 5}, {"positions": 8, "with": {"attention": {"name": "causal", "window": 6, "n_kv_head": 2}}}]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        self.weight = nn.Parameter(torch.empty(config.positions, width))

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, "position", fan_in=self.width)

    def score_bias(
        self, q: Tensor, query_position: Tensor, key_position: Tensor, scores: Tensor | None = None
    ) -> Tensor:
        assert scores is not None
        gates = torch.sigmoid(_widened(scores))  # (B, H, T, S), 0 where masked
        counts = self._counted_back(gates, key_position).clamp_max(len(self.weight) - 1)
        below = counts.detach().floor()
        at = _widened(F.linear(q, self.weight))  # (B, H, T, positions)
        here = at.gather(-1, below.long())
        there = at.gather(-1, (below.long() + 1).clamp_max(len(self.weight) - 1))
        return torch.lerp(here, there, counts - below)

    def _counted_back(self, gates: Tensor, key_position: Tensor) -> Tensor:
        """Of each key the sum of the gates from it on to the query: (B, H, T, S)."""
        if gates.shape[-2] == gates.shape[-1]:  # this call's own tokens, in their order
            return gates.flip(-1).cumsum(-1).flip(-1)
        newest = key_position.argsort(dim=-1, descending=True)  # a cache holds them in another
        newest = (newest if newest.ndim == 1 else newest[:, None, None]).expand(gates.shape)
        counted = gates.gather(-1, newest).cumsum(-1)
        return counted.gather(-1, newest.argsort(dim=-1))

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has the sigmoid as one operation."""
        n = work.elements
        return {"sigmoid": n, "exp": -n, "add": -n, "recip": -n}

    def cost(self, work: Work) -> Cost:
        """``work.rows``, ``work.elements``: of scores. Every query is multiplied with all of e, and looks up two of the
        products per key."""
        n, rows, positions = work.elements, work.rows, len(self.weight)
        ops = {"exp": n, "add": 5 * n, "recip": n, "cmp": n, "round": n, "sub": n, "mul": n}
        return Cost(
            params=self.own_params(),
            weights_read={"native": self.weight.numel()},
            matmuls=(Matmul(rows, self.width, positions),),
            ops=ops,
            activations=rows * self.width + 2 * n,
            passes=2,
        )


def _widened(x: Tensor) -> Tensor:
    """In fp32 at least: counts of many keys need its digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
