"""What can be chosen by name, told to Hydra: components, explorations, the sweeper and the keys of small commands."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from minigpt import config, presets, registry, schema
from minigpt.errors import UserError, shown
from minigpt.files import read_text, sha256_of_text
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
    for name, file in explorations().items():
        _store("explorations", name, file)


def own_files(group: str) -> dict[str, Path]:
    """Name -> file in ``conf/<group>/`` of the folder one starts from, where that is not the project's."""
    folder = Path.cwd() / "conf" / group
    return {} if folder.resolve() == (CONF / group).resolve() else {f.stem: f for f in sorted(folder.glob("*.yaml"))}


def known_word(group: str, word: str, *, own: bool = True) -> str:
    """The word by which Hydra finds what is chosen of a group of files. One given by its path, or lying in
    ``conf/<group>/`` of the folder one starts from (with ``own``), is told to Hydra; any other word is left as it is.

    Raises UserError for a file that is not there or cannot be read, or has the name of another.
    """
    if group in presets.composition_order() or group not in groups():
        return word
    if word.endswith((".yaml", ".yml")):
        file = Path(word)
        if not file.is_file():
            raise UserError(f"{group}: there is no file {shown(word)}. A path counts from {Path.cwd()}")
        name = re.sub(r"[^\w.-]", "_", file.stem)
        if name in _shipped(group) or name in own_files(group):
            name += f"-{sha256_of_text(str(file.resolve()))[:6]}"
        _store(group, name, file)
        return name
    if own and word in (files := own_files(group)):
        if word in _shipped(group):
            raise UserError(
                f"{group}: '{shown(word)}' is in {files[word].parent}, and minigpt has one of this name. "
                f"Rename the file, or give its path: {group}={files[word].relative_to(Path.cwd())}"
            )
        _store(group, word, files[word])
    return word


def _shipped(group: str) -> set[str]:
    return set(explorations()) if group == "explorations" else {file.stem for file in (CONF / group).glob("*.yaml")}


def _store(group: str, name: str, file: Path) -> None:
    """Tell Hydra of a file. It stands at the top level when it says so, or has its group's key; else in its group."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        text = read_text(file, limit=config.LARGEST_YAML)
        config.refuse_anchors(text)
        node = OmegaConf.create(text)
        if not OmegaConf.is_dict(node) or not node:
            raise ValueError("expected keys and values")
    except (YAMLError, OmegaConfBaseException, ValueError, OSError) as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if OmegaConf.select(node, "hydra.sweeper.params") and OmegaConf.select(node, "hydra.mode") is None:
        OmegaConf.update(node, "hydra.mode", "MULTIRUN", force_add=True)  # parameters of a sweep ask for one
    said = re.search(r"^#\s*@package\s+(\S+)\s*$", text, flags=re.MULTILINE)
    package = "_global_" if group == "explorations" or group in node else None
    ConfigStore.instance().store(name, node, group=group, package=said[1] if said else package)
