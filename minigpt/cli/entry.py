"""From the command line to a checked configuration: what every entry point shares.

``entry`` composes with Hydra, checks strictly, calls one function, and turns every mistake of the user into one or two
lines and exit code 2. Nothing here imports torch: ``--help``, ``--cfg job`` and a typo answer at once.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from minigpt import config, presets, registry, schema
from minigpt.cli import choices, words
from minigpt.cli.page import help_page
from minigpt.errors import UserError, shown, unknown
from minigpt.plugins import load_plugins
from minigpt.screen import say, visible
from minigpt.shipped import CONF
from minigpt.training.resume import resumed

T = TypeVar("T")
CLOSED_OUTPUT = 141  # what a shell says of a program that wrote into a closed pipe


def entry(
    config_name: str,
    root: type[T],
    first: str | None = None,
    reworded: Callable[[list[str], type], list[str]] | None = None,
) -> Callable[[Callable[[T], Any]], Callable[[], None]]:
    """Decorator of a ``main(config)``: compose ``conf/<config_name>.yaml``, check it against ``root``, call.

    A UserError, from the composition or from the function, is printed without traceback; the exit code is then 2.
    A main that returns a whole number ends the process with it. Its docstring opens ``--help``.
    first: the key that a first word without ``=`` is the value of. reworded: what turns words of another command line
    into those of this one.
    """

    def decorate(task: Callable[[T], Any]) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            with reported_errors():
                word = sys.argv[1] if len(sys.argv) > 1 else ""
                if first and word and word[0] not in "-+~" and "=" not in word:
                    sys.argv[1] = f"{first}={word}"
                if reworded:
                    sys.argv[1:] = reworded(sys.argv[1:], root)
                sys.exit(run_hydra(config_name, root, task) or 0)

        return main

    return decorate


class reported_errors:
    """Context manager: a UserError, or what the world outside refuses, is one or two lines and exit code 2.

    130 for an interrupt from the keyboard; a reader of our output that has gone ends the process in silence.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            sys.stdout.flush()
        except BrokenPipeError as closed:
            error = closed
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains of it once more
            sys.exit(CLOSED_OUTPUT)
        if isinstance(error, UserError):
            print(visible(error, lines=True), file=sys.stderr)
            sys.exit(2)
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            print(visible(f"{place}{error.strerror or error}"), file=sys.stderr)
            sys.exit(2)
        if isinstance(error, MemoryError):
            say("out of memory: this machine cannot hold what was asked for, or other programs do", file=sys.stderr)
            sys.exit(2)
        if isinstance(error, KeyboardInterrupt):
            say("interrupted", file=sys.stderr)
            sys.exit(130)


def run_hydra(config_name: str, root: type[T], task: Callable[[T], Any]) -> int | None:
    """Let Hydra read the command line and call ``task`` with the checked configuration; returns its exit code, if
    any."""
    typed = sys.argv[1:]
    if "--version" in typed:
        print(version())
        return None
    load_plugins(words.plugins_named(typed))
    schema.keys(config.TrainConfig)
    choices.store_components()
    choices.store_explorations()
    if {"-h", "--help"} & set(typed):
        print(help_page(config_name, root, task.__doc__ or ""))
        return None
    arguments = words.in_hydras_words(typed, root)
    if config_name != "train" and {"-m", "--multirun"} & set(arguments):
        raise UserError("-m: only training sweeps. Run this once for each value")
    outcome = _composed(config_name, root, task, arguments)
    return outcome if isinstance(outcome, int) else None


def _composed(config_name: str, root: type[T], task: Callable[[T], Any], arguments: list[str]) -> Any:
    """What ``task`` returns for the configuration that Hydra composes of ``arguments``."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing: what the user sees is decided here
    sys.argv[1:] = arguments
    outcome: list[Any] = []  # carried around Hydra, which would announce an error in words of its own

    def checked(cfg: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        try:
            overrides = list(HydraConfig.get().overrides.task)
            if HydraConfig.get().sweeper.params:
                raise UserError("hydra.sweeper.params: are a sweep's, this is a single run. Give -m, or leave them out")
            composed = chosen(cfg, overrides) if issubclass(root, config.TrainConfig) else cfg
            refuse_misplaced(composed)
            outcome.append(task(config.check(composed, root)))
        except OmegaConfBaseException as error:
            outcome.append(explain(error))
        except Exception as error:
            outcome.append(error)

    try:
        hydra.main(version_base=None, config_path=str(CONF), config_name=config_name)(checked)()
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from None
    if outcome and isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0] if outcome else None


def refuse_misplaced(cfg: Any) -> None:
    """Raise UserError for a file of a group that says its keys as on the command line and stands inside its group."""
    for group in choices.groups():
        if group not in cfg or not isinstance(cfg[group], Mapping):
            continue
        if group in cfg[group] and isinstance(cfg[group][group], Mapping):
            raise UserError(
                f"{group}.{group}: a file of this group says '{group}:' inside '{group}'. "
                f"Let its first line be '# @package _global_', or leave '{group}:' out"
            )


def chosen(cfg: Any, overrides: list[str]) -> Any:
    """What was composed; with ``resume`` the configuration of that run, with ``init_from`` the model of that one."""
    composed = resumed(cfg, overrides)
    if "init_from" not in composed or composed["init_from"] is None:
        return composed
    from minigpt.training.init_from import inherited  # torch: only where there are weights to read

    return inherited(config.to_plain(composed), overrides)


def given() -> dict[str, Any]:
    """What the command line said of the run itself, by key: what a record remembers to tell runs apart."""
    from hydra.core.hydra_config import HydraConfig

    return said(list(HydraConfig.get().overrides.task))


def said(overrides: list[str]) -> dict[str, Any]:
    """The same of words that Hydra composes."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    values = {override.key_or_group: override.value() for override in parsed if not override.is_delete()}
    return {key: value for key, value in values.items() if key.split(".")[0] not in config.NOT_IDENTITY}


def explain(error: Exception) -> UserError:
    """What Hydra could not compose, in our own words."""
    text = str(error).strip()
    group = re.search(r"Could not find '([^'/]+)/([^']*)'", text)
    if group:
        axis, name = group.groups()
        found = [*re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE), *choices.own_files(axis)]
        if axis == "data":
            refuse_dataset_as_file(name)
        if axis in presets.composition_order():
            found = [*registry.names(axis), *presets.named(axis)]
        return unknown(axis, name, f"there is no {axis} named", found)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("See https://hydra.cc")]
    if re.match(r"(no viable alternative|mismatched input|extraneous input|token recognition|missing)", text):
        form = "Lists are [a,b], groups {key: value}, and a text with signs in it stands in quotes"
        return UserError(f"{shown(lines[0])}: cannot be read as key=value. {form}")
    if key := getattr(error, "full_key", ""):
        return UserError(f"{shown(key, 60)}: {shown(lines[0])}")
    return UserError("\n".join(line[:300] for line in lines[:2]))


def refuse_dataset_as_file(name: str) -> None:
    """Raise UserError for a prepared dataset where a file of conf/data was asked for."""
    for folder in (Path(name), Path(config.DataConfig.folder) / name):
        if (folder / "meta.json").is_file():
            place = "" if str(folder.parent) == config.DataConfig.folder else f"data.folder={folder.parent} "
            raise UserError(
                f"data: '{shown(name)}' is a prepared dataset; data= names a file of conf/data. "
                f"Say {place}data.name={folder.name}"
            )


def version() -> str:
    """``minigpt 0.1.0``; a checkout that was never installed has no number."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as of

    try:
        return f"minigpt {of('minigpt')}"
    except PackageNotFoundError:
        return "minigpt, not installed"
