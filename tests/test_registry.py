"""Names to classes, read from source first and imported only when built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import pytest

from minigpt import registry, schema, source
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.plugins import load_plugins
from minigpt.testing import make_spec

EVERY_NAME = [(axis, name) for axis in registry.axes() for name in registry.names(axis)]


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a module and loads it as a plugin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_and_load(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        load_plugins([name.removesuffix("/__init__")])

    with registry.forgotten_afterwards():
        yield write_and_load


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
        "import sys; from minigpt import registry, schema\n"
        "for axis in registry.axes():\n"
        "    for name in registry.names(axis):\n"
        "        options = schema.defaults(registry.entry(axis, name).config)\n"
        "        if len(options) == len(registry.entry(axis, name).config.__dataclass_fields__):\n"
        "            registry.spec(axis, {'name': name})\n"
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


@pytest.mark.parametrize(("axis", "name"), EVERY_NAME, ids=str)
def test_a_name_cannot_be_taken_twice_whether_its_file_is_loaded_or_not(axis, name):
    """Neither the name nor a former one, by a plugin that wants it as either."""
    shipped = registry.entry(axis, name)
    for each in (name, *shipped.aliases):
        for wanted in ({"name": each}, {"name": "a_new_name", "aliases": [each]}):
            with pytest.raises(UserError, match=rf"{axis}={each}: .*Other cannot take this name, {shipped.place} has"):
                registry.register(axis, **wanted)(type("Other", (), {}))
    assert (registry.entry(axis, name), "a_new_name" in registry.names(axis)) == (shipped, False)


def test_a_name_of_another_plugin_cannot_be_taken_either(plugin):
    plugin("first_taker", "from minigpt import registry\n@registry.register('norm', 'sought')\nclass A: pass\n")
    with pytest.raises(UserError, match=r"norm=sought: second_taker\.B cannot take this name, first_taker\.A has it"):
        plugin("second_taker", "from minigpt import registry\n@registry.register('norm', 'sought')\nclass B: pass\n")
    with pytest.raises(UserError, match=r"third_taker\.D cannot take this name, third_taker\.C has it"):
        plugin(
            "third_taker",
            "from minigpt.registry import register\n@register('norm', 'c')\nclass C: pass\n"
            "@register('norm', 'c')\nclass D: pass\n",
        )


def test_a_component_needs_a_known_axis_and_options_of_the_house():
    with pytest.raises(UserError, match=r"there is no axis named 'nrom'\. Did you mean 'norm'\?"):
        registry.register("nrom", "x")(type("Lost", (), {}))
    with pytest.raises(UserError, match=r"its Config must be made with minigpt\.schema\.options"):
        registry.register("norm", "x")(type("Odd", (), {"Config": dict}))


@pytest.mark.parametrize("name", ["a b", "a=b", "", "a/b", "a\n"])
def test_a_name_can_be_typed(name):
    for wanted in ({"name": name}, {"name": "fine", "aliases": [name]}):
        with pytest.raises(UserError, match="a name is made of letters, digits, _ and -"):
            registry.register("norm", **wanted)(type("Odd", (), {}))


def test_no_option_stands_where_the_name_does():
    @schema.options
    class Config:
        name: str = "x"

    with pytest.raises(UserError, match="an option cannot be called 'name', which is what chooses odd"):
        registry.register("norm", "odd")(type("Odd", (), {"Config": Config}))


@pytest.mark.parametrize(
    ("name", "scope"), [("model", "block"), ("label", "block"), ("dropout", "model"), ("a b", "block")]
)
def test_an_axis_is_called_like_no_key(name, scope):
    def used():
        registry.declare(name, default="x", scope=scope)
        registry.register(name, "x")(type("X", (), {}))
        schema.plain(make_spec())
        schema.keys(TrainConfig)

    with registry.forgotten_afterwards(), pytest.raises(UserError, match=rf"axis '{name}': (is a key of|expected a)"):
        used()


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
    with pytest.raises(UserError, match=r"^\S*broken\.py:2: not Python"):
        list(source.registered(tmp_path / "broken.py"))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("", r"it has no __init__ of its own\. Expected __init__\(self, config, ctx, width\)$"),
        (
            "    def __init__(self): super().__init__()",
            r"does not fit: too many positional arguments\. Expected __init",
        ),
        ("    def __init__(self, config, ctx, width, more): ...", r"missing a required argument: 'more'\. Expected"),
    ],
)
def test_a_class_that_is_not_built_as_its_axis_builds_is_told_how(plugin, init, message):
    text = "from minigpt.components.norm.base import Norm\nfrom minigpt.registry import register\n"
    plugin("misfits", f'{text}@register("norm", "misfit")\nclass Misfit(Norm):\n    """A norm."""\n{init}\n')
    with pytest.raises(UserError, match=rf"^norm=misfit: misfits\.Misfit: .*{message}"):
        registry.build(registry.spec("norm", "misfit"), None, 8)


def test_a_plugin_s_variant_is_listed_checked_and_built(plugin):
    with registry.forgotten_afterwards():
        plugin(
            "a_plugin_for_tests",
            """
            from minigpt.components.norm.rmsnorm import RMSNorm
            from minigpt.registry import register
            from minigpt.schema import options

            @register("norm", "test_plugin_norm", aliases=("old_plugin_norm",))
            class PluginNorm(RMSNorm):
                @options
                class Config(RMSNorm.Config):
                    extra: int = 3

            @register("norm", "inherits_its_options")
            class Inherits(RMSNorm):
                pass
            """,
        )
        spec = registry.spec("norm", {"name": "old_plugin_norm", "extra": 4})
        assert (spec.name, spec.options.extra, spec.options.eps) == ("test_plugin_norm", 4, 1e-6)
        assert registry.spec("norm", {"name": "inherits_its_options", "eps": 1e-3}).options.eps == 1e-3
        assert registry.get("norm", "test_plugin_norm").__name__ == "PluginNorm"
    assert "test_plugin_norm" not in registry.names("norm")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["no_such_plugin_here"], r"plugins: no module 'no_such_plugin_here' on the Python path"),
        (["no.such.plugin"], r"plugins: no module 'no\.such\.plugin'"),
        (["./nowhere.py"], r"plugins: no file 'nowhere\.py'"),
        (["."], r"plugins: '\.' is no module\. Give a name such as my_norms, or a file such as \./my_norms\.py"),
        (["my-norms"], r"plugins: 'my-norms' is no module"),
        (["\x1b[31m.py"], r"plugins: '\\x1b\[31m\.py' is no module"),
        ([""], r"plugins: '' is no module"),
        ("./my.py", r"plugins: expected a list, write plugins=\[\./my\.py\]"),
        (5, r"plugins: expected modules or files, such as \[my_norms\] or \[\./my_norms\.py\], got '5'"),
        ([["a"]], r"plugins: expected modules or files"),
    ],
)
def test_what_is_no_plugin_says_what_one_is(asked, message):
    with pytest.raises(UserError, match=message):
        load_plugins(asked)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nclass (:\n", r"plugins: .*faulty.*faulty\.py:2: not Python: invalid syntax"),
        ("x = 1\ny = x / 0\n", r"plugins: .*faulty.*: cannot be imported: ZeroDivisionError: .*faulty\.py:2\)"),
        ("import no_such_package", r"plugins: .*faulty.*cannot be imported: ModuleNotFoundError: No module named"),
        ("from minigpt.registry import declare\ndeclare('norm', default='mine', scope='block')\n", r"declared twice"),
        ("raise ValueError('a\\nb\\x1b[31m')", r"ValueError: a\\nb\\x1b\[31m \("),
        (b"\xff\xfe", r"plugins: .*faulty.*"),
    ],
)
@pytest.mark.parametrize("asked", ["faulty", "./faulty.py"])
def test_a_plugin_that_fails_says_where_in_one_line(tmp_path, monkeypatch, asked, text, message):
    (tmp_path / "faulty.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for _ in range(2):  # the second time is no success
        with pytest.raises(UserError, match=message) as error:
            load_plugins([asked])
        assert len(str(error.value).splitlines()) == 1


def test_a_plugin_may_be_a_file_anywhere(tmp_path):
    (tmp_path / "by_its_path.py").write_text(
        "from minigpt.registry import register\n@register('norm', 'by_its_path')\nclass A:\n    'A norm.'\n"
    )
    with registry.forgotten_afterwards():
        for _ in range(2):
            load_plugins([str(tmp_path / "by_its_path.py")])
        assert registry.entry("norm", "by_its_path").place == "by_its_path.A"
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "by_its_path.py").write_text("")
        with pytest.raises(UserError, match="a module named 'by_its_path' is loaded already"):
            load_plugins([str(tmp_path / "elsewhere" / "by_its_path.py")])


def test_what_a_plugin_alone_imports_of_the_package_outlives_it():
    script = """
        from minigpt import registry
        with registry.forgotten_afterwards():
            cls = registry.get("norm", "dyt")
        assert registry.get("norm", "dyt") is cls
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_a_plugin_may_declare_an_axis(plugin):
    with registry.forgotten_afterwards():
        plugin(
            "declares_an_axis",
            """
            from minigpt.registry import declare, register

            declare("mixer", default="plain_mixer", scope="block")

            @register("mixer", "plain_mixer")
            class Plain:
                pass
            """,
        )
        assert registry.default("mixer") == registry.spec("mixer", "plain_mixer")
        assert "mixer" in registry.axes("block")
    assert "mixer" not in registry.axes()
    with pytest.raises(UserError, match=r"axis 'pace': .* chosen by blocks or by the model"):
        registry.declare("pace", default="slow", scope="run")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's sources, to change; what the registry has read is forgotten before and after."""
    shutil.copytree(source.PACKAGE, tmp_path / "minigpt", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source, "PACKAGE", tmp_path / "minigpt")
    registry._index.cache_clear()
    registry._own_axes.cache_clear()
    yield tmp_path / "minigpt"
    registry._index.cache_clear()
    registry._own_axes.cache_clear()


def test_a_file_in_a_folder_of_its_own_registers_as_any_other(package):
    (package / "components" / "softmax" / "family").mkdir()
    (package / "components" / "softmax" / "family" / "cousin.py").write_text(
        "from minigpt import registry\nfrom minigpt.components.softmax.base import Softmax\n"
        "@registry.register('softmax', 'cousin')\nclass Cousin(Softmax):\n    'One of a family.'\n"
    )
    found = registry.entry("softmax", "cousin")
    assert (found.module, found.config) == ("minigpt.components.softmax.family.cousin", schema.NoOptions)


def test_an_axis_is_a_folder_whose_base_declares_it(package):
    folder = package / "components" / "mixer"
    folder.mkdir()
    (folder / "base.py").write_text(
        "from minigpt import registry\nregistry.declare('mixer', default='m', scope='block')\n"
    )
    (folder / "m.py").write_text("@register('mixer', 'm')\nclass M:\n    'A mixer.'\n")
    assert registry.names("mixer") == ["m"]
    assert registry.default("mixer").name == "m"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class (:\n", r"mine\.py:1: not Python"),
        ("@register('mlp', 'x')\nclass X:\n    pass\n", r"registers mlp=x, but lies in the folder of axis 'norm'"),
        ("@register('norm', 'dyt')\nclass X:\n    pass\n", r"norm=dyt: .* cannot take this name"),
        ("@register('norm', NAME)\nclass X:\n    pass\n", r"mine\.py: cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_component_file_that_cannot_be_read_is_named(package, text, message):
    (package / "components" / "norm" / "mine.py").write_text(text)
    with pytest.raises(UserError, match=message):
        registry.names("norm")


def test_the_code_hash_follows_the_code_of_a_class_and_its_bases_alone(package):
    norm = package / "components" / "norm"
    before = {name: registry.code_hash("norm", name) for name in registry.names("norm")}
    softmax = registry.code_hash("softmax", "softmax")
    assert len(set(before.values())) == len(before)

    def changed() -> set[str]:
        return {name for name in before if registry.code_hash("norm", name) != before[name]}

    rmsnorm = (norm / "rmsnorm.py").read_text()
    (norm / "rmsnorm.py").write_text('"""Other words."""\n\n# why\n' + rmsnorm.split('"""', 2)[2] + "\n  # end\n")
    assert changed() == set()
    (norm / "rmsnorm.py").write_text((norm / "rmsnorm.py").read_text().replace("1e-6", "1e-5"))
    assert changed() == {"rmsnorm"}
    (norm / "base.py").write_text((norm / "base.py").read_text() + "\nEXTRA = 1\n")
    assert changed() == set(before)
    assert registry.code_hash("softmax", "softmax") == softmax


def test_every_name_has_a_code_hash_and_reading_it_imports_no_torch():
    code = (
        "import sys; from minigpt import registry\n"
        "for axis in registry.axes():\n"
        "    for name in registry.names(axis): assert len(registry.code_hash(axis, name)) == 64\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_code_hash_of_a_plugin_follows_its_own_modules(plugin, tmp_path):
    with registry.forgotten_afterwards():
        (tmp_path / "hashed_plugin").mkdir()
        helper = tmp_path / "hashed_plugin" / "helper.py"
        helper.write_text("SCALE = 1\n")
        plugin(
            "hashed_plugin/__init__",
            "from minigpt.registry import register\nfrom .helper import SCALE\n"
            "@register('norm', 'hashed')\nclass H:\n    'A norm.'\n",
        )
        before = registry.code_hash("norm", "hashed")
        helper.write_text("SCALE = 2  # twice\n")
        assert registry.code_hash("norm", "hashed") != before


def test_component_files_stand_alone():
    """A variant touches one file: no component imports another variant's file of its axis."""
    for axis in registry.axes():
        modules = {entry.module for entry in registry._index(axis).values()}
        for module in modules:
            source = Path(__file__).parent.parent.joinpath(*module.split(".")).with_suffix(".py").read_text()
            assert not [other for other in modules - {module} if f"from {other} import" in source], module
