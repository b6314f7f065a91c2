"""The transform axis: a built model, rewritten. Named in the model's specification, so that whatever builds the model
from it (loading, resuming, counting, pricing) gets the rewritten one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from minigpt.components.linear.base import LinearMap
from minigpt.errors import UserError
from minigpt.registry import declare

declare("transform", default=None, scope="list")


class Transform:
    """Built as ``cls(config)``.

    needs_weights: whether it rewrites weights that must be there already, so that no model can start with it.
    """

    needs_weights: ClassVar[bool] = False

    def apply(self, model: Any) -> None:
        """Rewrite a GPT in place, on the meta device: exchange parts for others, freeze parameters.

        A tied head scores with what is the model's embedding afterwards.
        """
        raise NotImplementedError

    def convert(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a model before :meth:`apply` -> those of the model after it, by name.

        What is new in the model and not among them starts as its part says.
        """
        return weights


def linears(model: nn.Module, sites: Collection[str]) -> Iterator[tuple[str, nn.Module, str, LinearMap]]:
    """(qualified name, owner, attribute, linear map) of every linear map at one of ``sites``.

    Raises UserError for a site that no linear map of the model has.
    """
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, LinearMap)]
    here = {linear.site for _, linear in found if linear.site is not None}
    for site in sites:
        if site not in here:
            raise UserError(f"transforms: no linear map at '{site}'. Sites of this model: {', '.join(sorted(here))}")
    for name, linear in found:
        if linear.site in sites:
            owner, _, attribute = name.rpartition(".")
            yield name, model.get_submodule(owner), attribute, linear
