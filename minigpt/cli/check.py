"""Hold variants to the contracts: ``minigpt check my_plugin``."""

from __future__ import annotations

import dataclasses
import sys

from minigpt.cli import words
from minigpt.cli.entry import entry, reported_errors
from minigpt.schema import options


@options
class CheckConfig:
    """What to check.

    plugins: modules to import first; what they register is checked. variants: these alone, each axis=name.
    """

    plugins: list[str] = ()  # type: ignore[assignment]
    variants: list[str] = ()  # type: ignore[assignment]


@entry("check", CheckConfig)
def check(config: CheckConfig) -> int:
    """Hold variants to every contract: those a plugin registers, or those named. Exit code 1 when one is broken.

    {this} my_plugin              all that a module registers: a word alone is one of plugins
    {this} my_plugin norm=mine    one of its variants: axis=name is one of variants
    {this} norm=rmsnorm           one of the project's
    """
    from minigpt.testing import command  # imports every component, which a typo in a command does not need

    return command.run(config.plugins, config.variants)


def main() -> None:
    """Check what the words name."""
    with reported_errors():
        sys.argv[1:] = in_keys(sys.argv[1:])
    check()


def in_keys(arguments: list[str]) -> list[str]:
    """The command line with its words as the keys they stand for: modules in plugins, axis=name in variants."""
    named: dict[str, list[str]] = {"plugins": [], "variants": []}
    kept = []
    keys = [field.name for field in dataclasses.fields(CheckConfig)]
    for before, word in zip(["", *arguments], arguments, strict=False):
        is_value = before.startswith("--") and "=" not in before and before not in words.FLAGS
        if not word or word.startswith(("-", "~", "+", "hydra.")) or is_value or word.partition("=")[0] in keys:
            kept.append(word)
        else:
            named["variants" if "=" in word else "plugins"].append(words.in_quotes(word))
    return kept + [f"{key}=[{','.join(given)}]" for key, given in named.items() if given]
