"""Initialisation and learning rates under which models of several widths behave alike."""

from __future__ import annotations

import math
from collections.abc import Iterable

from minigpt.components.init.base import InitPolicy
from minigpt.components.initialiser import Slot
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, PositiveInt, options


@register("init", "mup")
class MuPInit(InitPolicy):
    """Maximal update parametrisation for Adam, m = d_model / base_width: the learning rate that is best at base_width
    stays so at other widths.  Yang et al. 2022, arXiv:2203.03466, table 3.

    | role | standard deviation | learning rate |
    |---|---|---|
    | weight, residual_out | gain / sqrt(fan_in) | 1 / m |
    | head, router | gain / sqrt(fan_in m) | 1 / m |
    | conv | gain / sqrt(fan_in) | 1 |
    | embedding, position | embedding_std | 1 |

    Gains, biases and scalars learn at the rate itself. At d_model = base_width it is ``fan_in``. A model is to grow by
    more heads of one size; where heads grow instead, scores have to be divided by their size: set attention.scale_width
    to head_dim^2 divided by the head_dim at base_width. A tied head is refused: it would have to start and learn as an
    input and as an output. So is an optimizer whose steps are not of the size of its rate.
    """

    particular = True

    @options
    class Config:
        base_width: PositiveInt = 64
        gain: PositiveFloat = 1.0
        embedding_std: PositiveFloat = 0.02

    cases = [
        {"with": {"tie_embeddings": False}},
        {"base_width": 8, "with": {"tie_embeddings": False}},
        {"gain": 0.5, "embedding_std": 0.1, "with": {"tie_embeddings": False}},
    ]
    changes = {"base_width": "start", "gain": "start", "embedding_std": "start"}

    def __init__(self, config: Config):
        self.config = config

    def std(self, slot: Slot) -> float:
        if slot.role in ("embedding", "position"):
            return self.config.embedding_std
        if slot.role in ("head", "router"):
            return self.config.gain / math.sqrt(slot.fan_in * self._wider(slot))
        return self.config.gain / math.sqrt(slot.fan_in)

    def rate(self, slot: Slot) -> float:
        scaled = slot.role in ("weight", "residual_out", "head", "router")
        return 1 / self._wider(slot) if scaled else 1.0

    def check(self, slots: Iterable[Slot]) -> None:
        if not any(slot.role == "head" for slot in slots):
            raise UserError(
                "init=mup: a tied head would have to start and learn as an input and as an output. "
                "Set model.tie_embeddings=false"
            )

    def _wider(self, slot: Slot) -> float:
        return slot.d_model / self.config.base_width
