"""Reading machines: strict, with the way out in the message."""

from __future__ import annotations

import pytest

from minigpt.errors import UserError
from minigpt.hardware import from_plain, load
from minigpt.hardware.spec import FOLDER
from minigpt.schema import plain


def edge(**changes):
    return plain(load("edge_16nm")) | changes


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.yaml")))
def test_every_shipped_machine_loads_under_its_own_name_and_reads_back(name):
    spec = load(name)
    assert spec.name == name
    assert from_plain(plain(spec)) == spec


def test_an_unknown_machine_names_the_nearest():
    with pytest.raises(UserError, match=r"no hardware named 'edge_16'. Did you mean 'edge_16nm'"):
        load("edge_16")


def test_an_unknown_key_is_refused_with_its_path():
    with pytest.raises(UserError, match=r"hardware.memory.bandwith_gb_s: unknown key .* Did you mean 'bandwidth_gb_s'"):
        from_plain(edge(memory=edge()["memory"] | {"bandwith_gb_s": 3}))


def test_a_value_outside_its_own_interval_is_refused():
    constants = edge()["constants"]
    with pytest.raises(UserError, match="outside its own interval"):
        from_plain(edge(constants=constants | {"leakage": constants["leakage"] | {"value": 9.0}}))


def test_a_machine_whose_arithmetic_exceeds_its_thermal_limit_is_refused():
    with pytest.raises(UserError, match=r"arithmetic alone would take .* W at peak, but tdp_w is 0.1"):
        from_plain(edge(tdp_w=0.1))
