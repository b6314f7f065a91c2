"""The grammar of the command line: text means itself, flags and pairs are told apart, mistakes are said."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from minigpt.cli.check import in_keys
from minigpt.cli.inspect import InspectConfig
from minigpt.cli.words import in_hydras_words, plugins_named, text_keys
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.generation.config import SampleConfig
from minigpt.search.greedy import SearchConfig

PLAIN = [
    "The ",
    " a",
    "a,b",
    "f(x",
    "[a",
    "{b: c",
    "null",
    "12",
    "1e3",
    "",
    "it's",
    "a=b",
    "ü",
    "a\nb",
    "#",
    "~+",
    "FILE:a b.t",
]
TRICKY = ['say "hi" now', "'", '"', "c:\\dir\\", "\\n", '\\"', 'a\\\\"b', "\\\\", "${x}", "\\${x}", "\\\\${x} $y"]


@pytest.mark.parametrize("prompt", PLAIN + TRICKY)
def test_a_prompt_passes_through_hydra_as_it_is(prompt):
    (argument,) = in_hydras_words([f"start={prompt}"], SampleConfig)
    read = OverridesParser.create().parse_override(argument).value()
    assert isinstance(read, str)
    assert OmegaConf.create({"start": read}).start == prompt


def test_the_keys_that_take_text_follow_from_the_schemas():
    keys = text_keys(TrainConfig)
    assert {"name", "out", "resume", "init_from", "device", "data.name", "data.folder", "logger.project"} <= set(keys)
    assert not {"seed", "training.precision", "plugins", "attention.window"} & set(keys)
    assert (keys["name"], keys["out"]) == (True, False)  # null is a value of the first


def test_only_the_values_of_text_keys_are_quoted():
    arguments = ["top_k=3", "--cfg", "job", "start='quoted already, for Hydra'", "checkpoint=null"]
    assert in_hydras_words(arguments, SampleConfig) == [
        "--cfg", "job", "++top_k=3", "++start='quoted already, for Hydra'", "++checkpoint=null",
    ]  # fmt: skip


def test_in_a_sweep_every_text_between_commas_is_quoted():
    words = in_hydras_words(["-m", "data.name=a b,c", "name=null", "norm=dyt,rmsnorm", "seed=0,1"], TrainConfig)
    assert words == ["-m", '++data.name="a b","c"', "++name=null", 'norm="dyt","rmsnorm"', "++seed=0,1"]
    assert in_hydras_words(["-m", "data.name=choice(a,b)"], TrainConfig)[-1] == "++data.name=choice(a,b)"


def test_long_options_are_pairs():
    words = in_hydras_words(["--sort", "loss", "--json", "--limit=3", "--directory", "my runs"], InspectConfig)
    assert words == ['++sort="loss"', "++json=true", "++limit=3", '++directory="my runs"']
    assert in_hydras_words(["--plugins", "a,b"], TrainConfig) == ["++plugins=[a,b]"]
    assert plugins_named(["--plugins", "a,b"]) == plugins_named(["plugins=[a, 'b']"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "an empty argument"),
        (["name=a\0b"], "NUL"),
        (["explorations=\udcff"], "no UTF-8"),
        (["--config-dir", "\ud800"], "no UTF-8"),
        (["--nmae", "x"], "--nmae: there is no such option. Did you mean '--name'?"),
        (["--name"], "--name: expected a value"),
        (["nmae"], "'nmae': expected key=value. Did you mean 'name'?"),
        (["=x"], "expected key=value"),
        (["we ird=x"], "'we ird': no key has ' ' in it"),
        (["a!b=3"], "no key has '!' in it"),
        (["\u00e9=3"], "no key has '\u00e9' in it"),
        (["seed=1", "seed=2"], "seed: given twice"),
        (["softmax=[softmax,relumax]"], "To try several: -m softmax=softmax,relumax"),
        (["softmax=softmax,relumax"], "To try several: -m softmax=softmax,relumax"),
        (["mlp=[a,{b:c}]"], "mlp: expected one name"),
        (["attention={name:causal}"], "attention: expected one name"),
        (["~data"], "~data: cannot be taken away, it would take its default. Say data=<value>"),
        (["~attention"], "~attention: cannot be taken away"),
        (["~mlp.bias=true"], "~mlp.bias: cannot be taken away"),
        (["~=1"], "'~=1': expected a key alone after ~"),
        (["~sites.linear=[a]"], "expected a key alone after ~"),
        (["~seed"], "~seed: cannot be taken away"),
        (["~training"], "~training: cannot be taken away"),
        (["~training.max_steps"], "~training.max_steps: cannot be taken away"),
        (["hydra.run.dir=x"], "hydra.run.dir: is not heeded here. Of Hydra's settings, hydra.mode and"),
        (["hydra/launcher=x"], "hydra/launcher: is not heeded here"),
        (["++hydra.job.chdir=true"], "hydra.job.chdir: is not heeded here"),
        (["--cfg", "jbo"], "--cfg: expected job, hydra or all"),
    ],
)
def test_what_is_no_word_is_said(arguments, message):
    with pytest.raises(UserError) as error:
        in_hydras_words(arguments, TrainConfig)
    assert message in str(error.value)


@pytest.mark.parametrize("word", ["hydra.mode=RUN", "hydra.sweeper.params.seed=0", "++hydra.sweeper.params={a: 1}"])
def test_the_settings_of_hydra_that_are_heeded_are_handed_on(word):
    assert in_hydras_words([word], TrainConfig) == [word]


@pytest.mark.parametrize("word", ["~search.space.softmax", "~search.space.model.n_layer", "~sites.linear", "~nope"])
def test_what_a_group_holds_by_names_of_ones_own_can_be_taken_away(word):
    assert in_hydras_words([word], SearchConfig) == [word]


def test_the_words_of_check_stand_for_keys():
    assert in_keys(["my_norms", "norm=mine", "--plugins", "other"]) == [
        "--plugins", "other", 'plugins=["my_norms"]', 'variants=["norm=mine"]',
    ]  # fmt: skip
    assert in_keys(["--help", "plugins=[a]", "~x", ""]) == ["--help", "plugins=[a]", "~x", ""]
