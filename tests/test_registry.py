"""Names to classes, read from source first and imported only when built."""

from __future__ import annotations

import subprocess
import sys
import typing
from pathlib import Path

import pytest

from minigpt import registry, schema, source
from minigpt.errors import UserError
from minigpt.plugins import load_plugins

EVERY_NAME = [(axis, name) for axis in registry.axes() for name in registry.names(axis)]


@pytest.mark.parametrize(("axis", "name"), EVERY_NAME, ids=lambda x: x)
def test_what_the_source_says_is_what_the_class_has(axis, name):
    entry, cls = registry.entry(axis, name), registry.get(axis, name)
    assert (cls.axis, cls.name) == (axis, name)
    assert schema.defaults(entry.config) == schema.defaults(cls.Config)
    source_hints, class_hints = (
        typing.get_type_hints(config, vars(schema), include_extras=True) for config in (entry.config, cls.Config)
    )
    assert source_hints == class_hints


@pytest.mark.parametrize(("axis", "name"), EVERY_NAME, ids=lambda x: x)
def test_every_variant_says_in_its_first_line_what_it_computes(axis, name):
    assert len(registry.entry(axis, name).doc.splitlines()[0]) > 10


@pytest.mark.parametrize("axis", registry.axes())
def test_every_axis_has_its_house_default(axis):
    assert registry.axis_named(axis).default in [*registry.names(axis), None]


def test_listing_names_and_reading_schemas_imports_no_torch():
    code = (
        "import sys; from minigpt import registry\n"
        "for axis in registry.axes():\n"
        "    for name in registry.names(axis): registry.spec(axis, {'name': name})\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_gets_the_nearest_and_all_choices():
    with pytest.raises(
        UserError, match=r"norm\.name: there is no norm named 'rmsnrm'\. Did you mean 'rmsnorm'\?"
    ) as error:
        registry.spec("norm", {"name": "rmsnrm"})
    assert all(name in str(error.value).split("choices: ")[1] for name in ("dyt", "identity", "layernorm", "rmsnorm"))


def test_a_misspelt_option_gets_the_nearest_and_the_options():
    with pytest.raises(UserError, match=r"attention\.n_kv_heads: 'causal' has no option.*Did you mean 'n_kv_head'\?"):
        registry.spec("attention", {"name": "causal", "n_kv_heads": 2})


def test_an_option_of_another_variant_says_whose_it_is():
    with pytest.raises(UserError, match=r"softmax\.beta_init: 'softmax' has no option.*It is an option of consmax"):
        registry.spec("softmax", {"name": "softmax", "beta_init": 2.0})


def test_a_spec_prints_only_what_differs_from_the_defaults():
    assert str(registry.spec("attention", {"name": "causal", "window": 8})) == "causal(window=8)"
    assert str(registry.spec("norm", "rmsnorm")) == "rmsnorm"


@pytest.mark.parametrize("taken", ["rmsnorm", "layernorm"])
def test_a_name_cannot_be_taken_twice(taken):
    with pytest.raises(UserError, match=f"norm={taken}: is registered by minigpt.components.norm.{taken} already"):

        @registry.register("norm", taken)
        class Other:
            pass

    assert registry.get("norm", taken).__module__ == f"minigpt.components.norm.{taken}"


def test_a_component_needs_a_known_axis_and_options_of_the_house():
    with pytest.raises(UserError, match=r"there is no axis named 'nrom'. Did you mean 'norm'?"):
        registry.register("nrom", "x")(type("Lost", (), {}))
    with pytest.raises(UserError, match=r"its Config must be made with minigpt.schema.options"):
        registry.register("norm", "x")(type("Odd", (), {"Config": dict}))


def test_an_axis_is_declared_once():
    with pytest.raises(UserError, match="axis 'norm' is declared twice"):
        registry.declare("norm", default="mine", scope="block")


def test_source_that_is_not_enough_is_known_as_such(tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(
        "from minigpt.components.norm.base import Norm\nfrom elsewhere import Other\n"
        "@register('norm', 'computed')\nclass A(Norm):\n    @options\n    class Config:\n        eps: float = TINY\n"
        "@registry.register('norm', 'inherits')\nclass B(Other):\n    pass\n"
        "@registry.register('norm', 'plain', aliases=('old',))\nclass C(Norm):\n    'Doc.'\n"
    )
    computed, inherits, plain = source.registered(file)
    assert (computed.config, inherits.config, plain.config) == (None, None, schema.NoOptions)
    assert (plain.axis, plain.name, plain.aliases, plain.doc) == ("norm", "plain", ("old",), "Doc.")


def test_a_file_that_is_not_python_is_named_with_its_line(tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\nclass (:\n")
    with pytest.raises(UserError, match=r"broken\.py:2: not Python"):
        list(source.registered(tmp_path / "broken.py"))


def test_a_plugin_s_variant_is_listed_checked_and_built(tmp_path, monkeypatch):
    plugin = (
        "from minigpt.components.norm.rmsnorm import RMSNorm\n"
        "from minigpt.registry import register\n"
        "from minigpt.schema import options\n"
        "@register('norm', 'test_plugin_norm', aliases=('old_plugin_norm',))\n"
        "class PluginNorm(RMSNorm):\n"
        "    '''RMSNorm under another name.'''\n"
        "    @options\n"
        "    class Config(RMSNorm.Config):\n"
        "        extra: int = 3\n"
    )
    (tmp_path / "a_plugin_for_tests.py").write_text(plugin)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with registry.forgotten_afterwards():
        load_plugins(["a_plugin_for_tests"])
        assert "test_plugin_norm" in registry.names("norm")
        spec = registry.spec("norm", {"name": "old_plugin_norm", "extra": 4})
        assert (spec.name, spec.options.extra, spec.options.eps) == ("test_plugin_norm", 4, 1e-6)
    assert "test_plugin_norm" not in registry.names("norm")


def test_a_missing_plugin_is_named():
    with pytest.raises(UserError, match="plugins: no module 'no_such_plugin_here'"):
        load_plugins(["no_such_plugin_here"])


def test_component_files_stand_alone():
    """A variant touches one file: no component imports another variant's file of its axis."""
    for axis in registry.axes():
        modules = {entry.module for entry in registry._index(axis).values()}
        for module in modules:
            source = Path(__file__).parent.parent.joinpath(*module.split(".")).with_suffix(".py").read_text()
            assert not [other for other in modules - {module} if f"from {other} import" in source], module
