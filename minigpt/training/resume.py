"""Going on with a run: its configuration as it was stored, and on top of it the little that may be another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minigpt import config
from minigpt.errors import UserError, did_you_mean
from minigpt.plugins import module_name

RESUMABLE = (
    "training.max_steps", "training.max_tokens", "training.max_seconds", "training.patience", "training.min_delta",
    "training.log_interval", "training.checkpoint_interval", "training.threads", "logger", "evaluate", "plugins",
    "device", "data.folder", "data.name",
)  # fmt: skip
"""What may change when a run goes on: how far it goes, where it runs and who watches it. Data is held to its hash."""
REQUIRED = ("data", "model", "training")
"""Groups that a stored configuration must have: their defaults may have changed since it was stored."""


def resumed(cfg: Any, overrides: Iterable[str]) -> Any:
    """With ``resume=out/<run>``, the configuration stored there, and on top what the command line may still change.

    Without it, ``cfg`` as it is. overrides: what was typed, ``key=value``.
    Raises UserError for a missing run, and for an override that would make it another run.
    """
    content = config.to_plain(cfg)
    if content.get("resume") is None:
        return cfg
    folder = _folder(content["resume"])
    stored = read_stored(folder) | {"resume": str(folder)}
    given = content.get("plugins") or []
    named = {module_name(str(plugin)) for plugin in given}  # a file may lie elsewhere by now
    unnamed = [plugin for plugin in stored["plugins"] if module_name(plugin) not in named]
    if unnamed:  # what is loaded runs no code of its own accord
        raise UserError(f"resume: '{folder}' needs the plugins it was started with: plugins=[{','.join(unnamed)}]")
    for override in overrides:
        key = override.lstrip("+").split("=", 1)[0]
        if key == "resume":
            continue
        if key not in RESUMABLE and not (key.startswith(("logger.", "evaluate.")) and key.count(".") == 1):
            raise UserError(
                f"{key}: a resumed run keeps its own configuration; this cannot change."
                f"{did_you_mean(key, RESUMABLE)} What may: {', '.join(RESUMABLE)}. Otherwise start a new run"
            )
        group, _, option = key.partition(".")
        if option and group != "logger":
            before = stored.get(group, {})  # one stored before there was this group has none
            stored[group] = before | {option: content[group][option]}
        else:
            stored[group] = content[group]
    return stored


def read_stored(folder: Path) -> dict[str, Any]:
    """The ``config.yaml`` of a run's folder, which may be a stranger's. Raises UserError for what is no configuration
    of a run, and for one that needs something filled in to be whole."""
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"resume: no run in '{folder}' (no config.yaml there). Give the run's folder, such as out/<run>"
        )
    stored = config.load_yaml(file)
    for group in REQUIRED:
        if not isinstance(stored.get(group), Mapping) or not stored[group]:
            raise UserError(f"{file}: {group}: is missing, and it is not filled in with what is the default by now")
    plugins = stored.get("plugins") or []
    if not isinstance(plugins, list) or not all(isinstance(plugin, str) for plugin in plugins):
        raise UserError(f"{file}: plugins: expected a list of module names, got '{plugins}'"[:300])
    return stored | {"plugins": plugins}


def _folder(given: Any) -> Path:
    if not isinstance(given, (str, int)) or isinstance(given, bool) or not str(given):
        raise UserError(f"resume: expected a run's folder, such as out/<run>, got '{given}'")
    return Path(str(given))
