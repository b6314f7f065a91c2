"""The contracts catch what they are for: variants broken on purpose fail the very test that names their fault."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BROKEN = '''
import dataclasses
import torch
from torch import nn
from minigpt.components.norm.rmsnorm import RMSNorm
from minigpt.components.mlp.mlp import MLP
from minigpt.registry import register
from minigpt.schema import options


@register("norm", "broken_leak")
class Leak(RMSNorm):
    """Centred over time: every token sees the mean of all."""

    def forward(self, x):
        return super().forward(x - 0.1 * x.mean(dim=-2, keepdim=True))


@register("norm", "broken_option")
class IgnoredOption(RMSNorm):
    """Has an option that nothing reads."""

    @options
    class Config(RMSNorm.Config):
        strength: float = 1.0


@register("norm", "broken_untrained")
class Untrained(RMSNorm):
    """Owns a parameter that the output does not depend on."""

    def __init__(self, config, ctx, width):
        super().__init__(config, ctx, width)
        self.spare = nn.Parameter(torch.empty(width))

    def init_parameters(self, init):
        super().init_parameters(init)
        init.constant(self.spare, 1.0, "gain")


@register("norm", "broken_start")
class Uninitialised(Untrained):
    """Forgets to say how a parameter starts."""

    def init_parameters(self, init):
        RMSNorm.init_parameters(self, init)


@register("norm", "broken_cost")
class WrongCost(RMSNorm):
    """Claims to be free."""

    def cost(self, work):
        return dataclasses.replace(super().cost(work), params=0)


@register("mlp", "broken_macs")
class WrongProducts(MLP):
    """Forgets the cost of one of its matrices."""

    def cost(self, work):
        parts = dict(super().cost(work).parts)
        del parts["down"]
        return dataclasses.replace(super().cost(work), parts=parts)


@register("mlp", "broken_cache")
class LooksBack(MLP):
    """Mixes in the token before, which a cached decode does not hand over."""

    def forward(self, x):
        return super().forward(x + torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1))


@register("mlp", "broken_uses")
class Undeclared(MLP):
    """Builds from axes it does not declare."""

    uses = frozenset({"linear"})
'''
CAUGHT_BY = {
    "norm=broken_leak": "test_no_token_sees_the_future_and_each_sees_itself",
    "norm=broken_option": "test_no_option_is_ignored",
    "norm=broken_untrained": "test_every_parameter_receives_a_finite_gradient",
    "norm=broken_start": "test_builds_without_memory_and_leaves_nothing_there",
    "norm=broken_cost": "test_cost_counts_exactly_what_is_there",
    "mlp=broken_macs": "test_cost_counts_exactly_what_is_there",
    "mlp=broken_cache": "test_cached_decode_equals_the_full_forward",
    "mlp=broken_uses": "test_declared_uses_are_the_axes_really_built_from",
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory) -> set[tuple[str, str]]:
    """(contract, variant) of every contract that failed."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken_variants.py").write_text(BROKEN)
    contracts = str(ROOT / "tests" / "test_component_contracts.py")
    words = [contracts, "--plugin", "broken_variants", "-k", "broken_", "-q", "--tb=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return {
        (contract, variant)
        for contract, parameters in re.findall(r"^FAILED \S+::(\w+)\[([^\]]+)\]", done.stdout, flags=re.MULTILINE)
        for variant in re.findall(r"\w+=broken_\w+", parameters)
    }


@pytest.mark.parametrize("variant", CAUGHT_BY)
def test_a_broken_variant_fails_the_contract_that_names_its_fault(failures, variant):
    assert (CAUGHT_BY[variant], variant) in failures


def test_a_sound_variant_beside_them_fails_nothing(failures):
    assert not [contract for contract, variant in failures if "broken_" not in variant]
    assert ("test_no_token_sees_the_future_and_each_sees_itself", "norm=broken_cost") not in failures
