"""The points of a grid, as Hydra would compose each of them, without composing each of them.

Hydra takes some 65 ms for one configuration. It is asked once for the choices of groups (``softmax=consmax``) and no
more: one word after the other where a word stays within its group, every combination of words where one brings other
groups along (a preset, a model). Values (``optimizer.lr=1e-3``) are then put into plain data. A point for which that
could differ from what Hydra does - an interpolation, a group of options, keys inside each other - is left to Hydra.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minigpt import config, presets, registry
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.search.points import Point, at_point

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Content = dict[str, Any]


@dataclass(frozen=True)
class Saying:
    """One value of one override. text: as Hydra reads it. group: whether it chooses a file of a group."""

    key: str
    text: str
    value: Any = field(hash=False)
    group: bool


@dataclass
class _Base:
    """What the points with the same choices share. content: composed, without swept values. run: of any such point."""

    content: Content
    nodes: dict[Saying, Any] = field(default_factory=dict)
    read: dict[tuple[str, str], Any] = field(default_factory=dict)
    run: TrainConfig | None = None


class _NotPlainError(Exception):
    """Plain data could differ from what Hydra composes here."""


class Grid:
    """The grid that ``overrides`` span, over the configuration that ``master`` was composed from.

    keys: what is swept, in order. Raises UserError for an interval, which is no grid.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig, overrides: Sequence[Override]):
        self._loader, self._master = loader, master
        self._sayings = [_sayings(loader, override) for override in overrides]
        self._swept = [override.is_sweep_override() for override in overrides]
        self.keys = [override.key_or_group for override in overrides if override.is_sweep_override()]
        self._separate = {s.key for said in self._of_swept() for s in said[:1] if _all_stay(said)}
        self._own_keys = [k for k in dict.fromkeys(k.split(".")[0] for k in self._separate | self._value_keys())]
        self._plain = self._is_plain(overrides)
        self._bases: dict[tuple[Saying, ...], _Base | None] = {}

    def __len__(self) -> int:
        count = 1
        for said in self._sayings:
            count *= len(said)
        return count

    def __iter__(self) -> Iterator[Point | UserError]:
        """The point of every combination; in place of a point, why it is none."""
        for said in itertools.product(*self._sayings):
            here = {s.key: s.value for s, swept in zip(said, self._swept, strict=True) if swept}
            try:
                yield Point(here, self._run(said))
            except UserError as error:
                yield at_point(here, error)

    def _run(self, said: Sequence[Saying]) -> TrainConfig:
        try:
            base = self._base(said)
            return self._typed(base, self._content(base, said))
        except _NotPlainError:
            return config.check(self._composed(text for s in said for text in _texts(s)), TrainConfig)

    def _content(self, base: _Base, said: Sequence[Saying]) -> Content:
        """A point's configuration, sharing with the base whatever it does not change."""
        content = dict(base.content)
        for saying in self._chosen(said, separate=True):
            if saying not in base.nodes:
                base.nodes[saying] = self._simple([s.text for s in self._hydras(said, saying)])[saying.key]
            content[saying.key] = base.nodes[saying]
        for saying, swept in zip(said, self._swept, strict=True):
            if swept and not saying.group:
                _put(content, saying)
        return content

    def _typed(self, base: _Base, content: Content) -> TrainConfig:
        """The checked configuration: of keys that were read before with the same content, what was read then."""
        known = {key: (key, repr(content[key])) for key in self._own_keys}
        if base.run is None or not all(name in base.read for name in known.values()):
            base.run = config.check(content, TrainConfig)
            parts = base.run.parts
            base.read |= {n: parts[key] if key in parts else getattr(base.run, key) for key, n in known.items()}
            return base.run
        values = {key: base.read[name] for key, name in known.items()}
        parts = {axis: values.pop(axis, part) for axis, part in base.run.parts.items()}
        return dataclasses.replace(base.run, parts=parts, **values)

    def _base(self, said: Sequence[Saying]) -> _Base:
        chosen = self._chosen(said, separate=False)
        if chosen not in self._bases:
            try:
                self._bases[chosen] = _Base(self._simple([s.text for s in self._hydras(said)])) if self._plain else None
            except _NotPlainError:
                self._bases[chosen] = None
        base = self._bases[chosen]
        if base is None:
            raise _NotPlainError
        return base

    def _hydras(self, said: Sequence[Saying], separate: Saying | None = None) -> Iterator[Saying]:
        """What Hydra is to compose for a point: no swept value; of separate groups the first word, or ``separate``."""
        for saying, choices, swept in zip(said, self._sayings, self._swept, strict=True):
            if not swept or (saying.group and saying.key not in self._separate):
                yield saying
            elif saying.group:
                yield saying if saying == separate else choices[0]

    def _chosen(self, said: Sequence[Saying], separate: bool) -> tuple[Saying, ...]:
        return tuple(
            s
            for s, swept in zip(said, self._swept, strict=True)
            if swept and s.group and (s.key in self._separate) is separate
        )

    def _simple(self, texts: list[str]) -> Content:
        """What Hydra composes, when every value in it stands for itself."""
        from hydra.errors import HydraException
        from omegaconf import OmegaConf

        try:
            composed = self._loader.load_sweep_config(self._master, texts)
        except HydraException:
            raise _NotPlainError from None
        content = OmegaConf.to_container(composed, resolve=False)
        assert isinstance(content, dict)
        del content["hydra"]
        if any(mark in json.dumps(content, default=str) for mark in ("${", '"???"')):
            raise _NotPlainError
        return _started(content, texts)  # type: ignore[arg-type]

    def _composed(self, texts: Iterator[str]) -> Content:
        from omegaconf import open_dict

        given = list(texts)
        composed = self._loader.load_sweep_config(self._master, given)
        with open_dict(composed):
            del composed["hydra"]
        return _started(config.to_plain(composed), given)

    def _of_swept(self) -> list[list[Saying]]:
        return [said for said, swept in zip(self._sayings, self._swept, strict=True) if swept]

    def _value_keys(self) -> set[str]:
        return {said[0].key for said in self._of_swept() if not said[0].group}

    def _is_plain(self, overrides: Sequence[Override]) -> bool:
        """Whether no swept value stands inside another override's key, or the other way round, and all are plain."""
        for index, (override, said) in enumerate(zip(overrides, self._sayings, strict=True)):
            if not self._swept[index]:
                continue
            if said[0].key == "init_from":  # decides what everything else means
                return False
            if len({s.group for s in said}) > 1 or override.package is not None:
                return False
            others = [o[0].key for i, o in enumerate(self._sayings) if i != index and not o[0].group]
            alone = override.is_force_add() or all(map(_is_whole, said))
            if not said[0].group and (not alone or any(_nested(said[0].key, k) for k in others)):
                return False
        return True


def _started(content: Content, texts: Sequence[str]) -> Content:
    """With ``init_from``, the model of the run it names, where the texts say nothing else."""
    if content["init_from"] is None:
        return content
    from minigpt.training.init_from import inherited  # torch: only where there are weights to read

    return inherited(content, texts)


def _sayings(loader: ConfigLoader, override: Override) -> list[Saying]:
    """Everything an override stands for, one after the other."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    key = override.get_key_element()
    if not override.is_sweep_override():
        texts = [override.input_line or f"{key}={override.get_value_element_as_str()}"]
    elif override.is_discrete_sweep():
        texts = [f"{key}={value}" for value in override.sweep_string_iterator()]
    else:
        raise UserError(f"{key}: a grid needs values, not an interval. Write {key}=1,2,3 or {key}=range(1,4)")
    parsed = OverridesParser.create().parse_overrides(texts)
    is_group = loader.repository.group_exists(override.key_or_group)  # type: ignore[attr-defined]
    found = []
    for text, each in zip(texts, parsed, strict=True):
        value = _with_text_keys(each.value())
        found.append(Saying(override.key_or_group, text, value, is_group and not isinstance(value, dict)))
    return found


def _is_whole(saying: Saying) -> bool:
    """Whether it says a component with its options, ``optimizer={name: lion, lr: 1e-4}``, and nothing of other axes."""
    named = isinstance(saying.value, dict) and "name" in saying.value
    return named and saying.key in registry.axes() and _stays(saying.key, saying.value["name"])


def _texts(saying: Saying) -> list[str]:
    """What Hydra is told of a saying: of a whole component, its name and then its options, which Hydra would put among
    those of the name that stood there before."""
    if not _is_whole(saying):
        return [saying.text]
    options = {option: value for option, value in saying.value.items() if option != "name"}
    told = [f"++{saying.key}.{option}={json.dumps(value)}" for option, value in options.items()]
    return [f"{saying.key}={saying.value['name']}", *told]


def _all_stay(said: Sequence[Saying]) -> bool:
    """Whether no word of an axis reaches beyond it."""
    return all(s.group and s.key in registry.axes() and _stays(s.key, s.value) for s in said)


def _stays(axis: str, word: Any) -> bool:
    return isinstance(word, str) and presets.is_word(axis, word) and set(presets.resolve(axis, word)) == {axis}


def _put(content: Content, saying: Saying) -> None:
    """Set a dotted key, copying what leads to it; or a whole component."""
    value = saying.value
    if _is_whole(saying):
        content[saying.key] = presets.one_spelt(saying.key, value, saying.key)
        return
    if isinstance(value, dict) or any(mark in str(value) for mark in ("${", "???")) or "[" in saying.key:
        raise _NotPlainError
    *groups, last = saying.key.split(".")
    node: Any = content
    for group in groups:
        if group not in node or not isinstance(node[group], dict):
            raise _NotPlainError
        node[group] = dict(node[group])
        node = node[group]
    if last in node and isinstance(node[last], dict):
        raise _NotPlainError
    node[last] = value


def _nested(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_text_keys(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(each) for key, each in value.items()}
    return value
