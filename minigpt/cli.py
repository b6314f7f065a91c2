"""From the command line to a checked configuration: what every entry point shares.

``entry`` composes with Hydra, checks strictly, calls one function, and turns every mistake of the user into one or two
lines and exit code 2. Nothing here imports torch: ``--help``, ``--cfg job`` and a typo answer at once.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from minigpt import config, presets, registry, schema
from minigpt.errors import UserError, unknown
from minigpt.plugins import load_plugins
from minigpt.presets import CONF
from minigpt.training.resume import resumed

T = TypeVar("T")


def entry(config_name: str, root: type[T]) -> Callable[[Callable[[T], Any]], Callable[[], None]]:
    """Decorator of a ``main(config)``: compose ``conf/<config_name>.yaml``, check it against ``root``, call.

    A UserError, from the composition or from the function, is printed without traceback; the exit code is then 2.
    A main that returns a whole number ends the process with it.
    """

    def decorate(task: Callable[[T], Any]) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            with reported_errors():
                sys.exit(run_hydra(config_name, root, task) or 0)

        return main

    return decorate


class reported_errors:
    """Context manager: print a UserError and exit with code 2; 130 for an interrupt from the keyboard."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UserError):
            print(error, file=sys.stderr)
            sys.exit(2)
        if isinstance(error, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
            sys.exit(130)


def run_hydra(config_name: str, root: type[T], task: Callable[[T], Any]) -> int | None:
    """Let Hydra read the command line and call ``task`` with the checked configuration; returns its exit code, if
    any."""
    import hydra
    from hydra.errors import HydraException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing: what the user sees is decided here
    if config_name != "train" and {"-m", "--multirun"} & set(sys.argv[1:]):
        raise UserError("-m: only train.py sweeps. Run this once for each value")
    load_plugins(_plugins_named(sys.argv[1:]))
    store_components()
    store_explorations()
    sys.argv[1:] = sorted(with_own_checks(sys.argv[1:]), key=_is_override)  # argparse wants them to stand together
    outcome: list[Any] = []  # carried around Hydra, which would announce a UserError in words of its own

    def checked(cfg: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        try:
            overrides = list(HydraConfig.get().overrides.task)
            if HydraConfig.get().sweeper.params:
                raise UserError("hydra.sweeper.params: are a sweep's, this is a single run. Give -m, or leave them out")
            outcome.append(task(config.check(chosen(cfg, overrides), root)))
        except UserError as error:
            outcome.append(error)

    try:
        hydra.main(version_base=None, config_path=str(CONF), config_name=config_name)(checked)()
    except HydraException as error:
        raise explain(error) from None
    if outcome and isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0] if outcome and isinstance(outcome[0], int) else None


def chosen(cfg: Any, overrides: list[str]) -> Any:
    """What was composed; with ``resume`` the configuration of that run, with ``init_from`` the model of that one."""
    composed = resumed(cfg, overrides)
    if "init_from" not in composed or composed["init_from"] is None:
        return composed
    from minigpt.training.init_from import inherited  # torch: only where there are weights to read

    return inherited(config.to_plain(composed), overrides)


@functools.cache
def store_components() -> None:
    """Make every registered component, and the sweeper, selectable in Hydra: names and defaults as plain values.

    ``axes`` is what conf/train.yaml takes from every axis when nothing is said.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    from minigpt.search.sweeper import StudySweeper

    store = ConfigStore.instance()
    order = presets.composition_order()
    for axis in order:
        for name in registry.names(axis):
            defaults = schema.defaults(registry.entry(axis, name).config)
            store.store(group=axis, name=name, node={"name": name} | defaults, provider="minigpt")
    chosen = [{axis: registry.default(axis).name} for axis in order]
    store.store(name="axes", node={"defaults": chosen}, provider="minigpt")
    Plugins.instance().register(StudySweeper)
    target = f"{StudySweeper.__module__}.{StudySweeper.__qualname__}"
    store.store(group="hydra/sweeper", name="study", node={"_target_": target, "params": None}, provider="minigpt")


def given() -> dict[str, Any]:
    """What the command line said of the run itself, by key: what a record remembers to tell runs apart."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    said = {override.key_or_group: override.value() for override in parsed if not override.is_delete()}
    return {key: value for key, value in said.items() if key.split(".")[0] not in config.NOT_IDENTITY}


def with_own_checks(arguments: list[str]) -> list[str]:
    """Force plain ``key=value`` in (Hydra's ``++``): unknown keys then reach our check, which says what was meant.

    Hydra would refuse them with the advice to write ``+key=value``, and then take that. A choice of a group stays one.
    """
    groups = {p.name for p in CONF.iterdir() if p.is_dir()} | set(presets.composition_order()) | {"explorations"}
    forced = []
    for argument in arguments:
        key = argument.split("=", 1)[0].lstrip("+")
        if "=" not in argument or argument[0] in "-~" or key.startswith("hydra"):
            forced.append(argument)
        else:
            forced += [f"++{key}=null"] if key in _REPLACED else []
            forced.append(argument.lstrip("+") if key in groups else f"++{argument.lstrip('+')}")
    return forced


_REPLACED = ("search.space",)
"""Keys whose group ``key={...}`` says anew; Hydra alone would add it to the group a file has."""


def _is_override(argument: str) -> bool:
    return argument[0] == "~" or ("=" in argument and argument[0] != "-")


def store_explorations() -> None:
    """Make the files of ``explorations/`` a group: the project's, and those of the folder one starts from, which win.

    Stored one by one, because a search path would turn every folder beside them (data, out) into a group too.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    files = {f.stem: f for folder in (CONF.parent, Path.cwd()) for f in sorted(folder.glob("explorations/*.yaml"))}
    for name, file in files.items():
        try:
            node = OmegaConf.load(file)
        except (YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
        if OmegaConf.select(node, "hydra.sweeper.params") and OmegaConf.select(node, "hydra.mode") is None:
            OmegaConf.update(node, "hydra.mode", "MULTIRUN", force_add=True)  # parameters of a sweep ask for one
        ConfigStore.instance().store(name, node, group="explorations", package="_global_")


def explain(error: Exception) -> UserError:
    """What Hydra could not compose, in our own words."""
    text = str(error).strip()
    group = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if group:
        axis, name = group.groups()
        choices = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        return unknown(axis, name, f"there is no {axis} named", choices)
    return UserError("\n".join(line for line in text.splitlines() if line.strip())[:600])


def _plugins_named(arguments: list[str]) -> list[str]:
    """Plugins on the command line, read before Hydra composes: their names must be choices when it does."""
    for argument in arguments:
        if re.match(r"\+{0,2}plugins=", argument):
            return [name.strip() for name in argument.split("=", 1)[1].strip("[]").split(",") if name.strip()]
    return []
