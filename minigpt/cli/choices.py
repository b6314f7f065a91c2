"""What can be chosen by name, told to Hydra: components, explorations, the sweeper and the keys of small commands."""

from __future__ import annotations

import functools
from pathlib import Path

from minigpt import presets, registry, schema
from minigpt.errors import UserError
from minigpt.shipped import CONF, EXPLORATIONS


def groups() -> frozenset[str]:
    """The keys whose value is the name of a file or a component."""
    folders = {path.name for path in CONF.iterdir() if path.is_dir()}
    return frozenset(folders | set(presets.composition_order()) | {"explorations"})


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
            entry = registry.entry(axis, name)
            node = {"name": name} | schema.defaults(entry.config)
            for each in (name, *entry.aliases):
                store.store(group=axis, name=each, node=node, provider="minigpt")
    chosen = [{axis: registry.default(axis).name} for axis in order]
    store.store(name="axes", node={"defaults": chosen}, provider="minigpt")
    Plugins.instance().register(StudySweeper)
    target = f"{StudySweeper.__module__}.{StudySweeper.__qualname__}"
    store.store(group="hydra/sweeper", name="study", node={"_target_": target, "params": None}, provider="minigpt")


def explorations() -> dict[str, Path]:
    """Name -> file: the project's, and those in ``explorations/`` of the folder one starts from, which win."""
    folders = (EXPLORATIONS, Path.cwd() / "explorations")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def store_explorations() -> None:
    """Make explorations a group.

    Stored one by one, because a search path would turn every folder beside them (data, out) into a group too.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for name, file in explorations().items():
        try:
            node = OmegaConf.load(file)
        except (YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
            raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
        if OmegaConf.select(node, "hydra.sweeper.params") and OmegaConf.select(node, "hydra.mode") is None:
            OmegaConf.update(node, "hydra.mode", "MULTIRUN", force_add=True)  # parameters of a sweep ask for one
        ConfigStore.instance().store(name, node, group="explorations", package="_global_")
