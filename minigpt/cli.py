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

from minigpt import config, registry, schema
from minigpt.errors import UserError, unknown

T = TypeVar("T")
CONF = Path(__file__).resolve().parent.parent / "conf"


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
    arguments = sys.argv[1:]
    registry.load_plugins(_plugins_named(arguments))
    store_components()
    outcome: list[Any] = []  # carried around Hydra, which would announce a UserError in words of its own

    def checked(cfg: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        try:
            overrides = list(HydraConfig.get().overrides.task)
            outcome.append(task(config.check(config.resumed(cfg, overrides), root)))
        except UserError as error:
            outcome.append(error)

    try:
        hydra.main(version_base=None, config_path=str(CONF), config_name=config_name)(checked)()
    except HydraException as error:
        raise explain(error, arguments, config_name, root) from None
    if outcome and isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0] if outcome and isinstance(outcome[0], int) else None


@functools.cache
def store_components() -> None:
    """Make every registered component, and the sweeper, selectable in Hydra: names and defaults as plain values."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    from minigpt.search.sweeper import StudySweeper

    store = ConfigStore.instance()
    for axis in registry.AXES:
        for name in registry.names(axis):
            defaults = schema.defaults(registry.entry(axis, name).config)
            store.store(group=axis, name=name, node={"name": name} | defaults, provider="minigpt")
    Plugins.instance().register(StudySweeper)
    target = f"{StudySweeper.__module__}.{StudySweeper.__qualname__}"
    store.store(group="hydra/sweeper", name="study", node={"_target_": target, "params": None}, provider="minigpt")


def explain(error: Exception, arguments: list[str], config_name: str, root: type) -> UserError:
    """Say what was wrong with the command line in our own words: Hydra's would suggest ``+key``, which is no way
    out."""
    text = str(error)
    group = re.search(r"(?:Could not find|In '[^']*': Could not find) '([^']+)/([^'/]+)'", text)
    if group:
        axis, name = group.groups()
        choices = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        return unknown(axis, name, f"there is no {axis} named", choices)
    if "Could not override" in text or "Key '" in text:
        try:
            config.check(_compose_leniently(arguments, config_name), root)
        except UserError as understood:
            return understood
        except Exception as failed:  # composing again is a courtesy: when it fails too, Hydra's first message stands
            text += f"\n({failed})"
    return UserError(re.sub(r"\s*To append to your config use \S+", "", text).strip())


def _compose_leniently(arguments: list[str], config_name: str) -> Any:
    """Compose with every plain ``key=value`` forced in, so that the strict check sees the unknown key and names it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    groups = {p.name for p in CONF.iterdir() if p.is_dir()} | set(registry.AXES) | {"explorations"}
    overrides = []
    for argument in (a for a in arguments if "=" in a and not a.startswith("-")):
        override = OverridesParser.create().parse_override(argument)
        key = override.key_or_group
        if override.is_sweep_override():
            argument = f"{key}={next(override.sweep_string_iterator())}"
        forced = key not in groups and not key.startswith("hydra") and argument[0] not in "+~"
        overrides.append(f"++{argument}" if forced else argument)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base=None):
        return compose(config_name, overrides)


def _plugins_named(arguments: list[str]) -> list[str]:
    """Plugins on the command line, read before Hydra composes: their names must be choices when it does."""
    for argument in arguments:
        if re.match(r"\+{0,2}plugins=", argument):
            return [name.strip() for name in argument.split("=", 1)[1].strip("[]").split(",") if name.strip()]
    return []
