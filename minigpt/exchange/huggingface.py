"""Hugging Face's ``config.json`` <-> a ModelSpec, by a family's table. Every key is understood, harmless or refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from minigpt.errors import UserError, did_you_mean, shown
from minigpt.exchange.families import FAMILIES
from minigpt.exchange.family import HARMLESS, ONLY, Family, Key, Only, Windows, Word
from minigpt.exchange.shape import Shape, all_of, shape_of, spec_of
from minigpt.model import GPT, ModelSpec

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}
_NONE = "none"
_SLIDING, _FULL = "sliding_attention", "full_attention"


def family_of(config: Any, where: str) -> Family:
    """The table for a ``config.json``; raises UserError for a family there is none for."""
    if not isinstance(config, Mapping):
        raise UserError(f"{where}: expected an object of keys and values")
    model_type = config.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise UserError(
            f"{where}: model_type '{shown(model_type)}' is none we have a table for."
            f"{did_you_mean(model_type, FAMILIES)}\n  families: {', '.join(FAMILIES)}"
        )
    named = config.get("architectures") or [family.architecture]
    if named != [family.architecture] and not _is_body(named, family):
        raise UserError(
            f"{where}: architectures {shown(named)}: expected a language model, {family.architecture}. Another head, "
            f"such as a classifier's, has other tensors"
        )
    return family


def _is_body(named: Any, family: Family) -> bool:
    return named == [re.sub("ForCausalLM$|LMHeadModel$", "Model", family.architecture)]


def spec_from_config(
    config: Mapping[str, Any],
    family: Family,
    where: str,
    *,
    block_size: int | None = None,
    ignore: Collection[str] = (),
) -> ModelSpec:
    """The model a ``config.json`` describes. block_size: a shorter context. ignore: keys to pass over.

    Raises UserError for a key that no table knows, and for a value our parts cannot have.
    """
    given = {key: value for key, value in _flat(config, family, where).items() if key not in ignore}
    known = dict(ONLY) | dict(family.keys)
    for name, key in known.items():
        if isinstance(key, Only) and not _same(_or(given.get(name), key.absent), key.value):
            raise UserError(f"{where}: {name} is '{shown(given.get(name))}', expected {key.value}: {key.why}")
    unknown = [key for key in given if key not in family.keys and key not in HARMLESS and key not in ONLY]
    if unknown:
        raise UserError(
            f"{where}: {', '.join(shown(key, 60) for key in unknown[:8])}: not a key of {family.model_type} that we "
            f"know; it may change what the model computes.\n"
            f"  If it does not: minigpt import source=... out=... ignore=[{shown(unknown[0], 60)}]"
        )
    theirs = _resolved(given, family, where)
    values: dict[str, Any] = dict(family.fixed)
    for name, key in family.keys.items():
        if isinstance(key, Key):
            values |= dict.fromkeys(key.ours, _ours(name, key, theirs[name], where))
    _head_dim(values, where)
    _cut(values, block_size, where)
    try:
        return spec_of(values, _windows(theirs, family, values, where))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def config_from_model(model: GPT, family: Family) -> dict[str, Any]:
    """The ``config.json`` of a model, which may be on meta.

    Raises InexpressibleError for a model that the family cannot be: what would come back from its configuration is not
    the same, whatever a table forgot.
    """
    shape = shape_of(model)
    differences: list[tuple[str, Any, Any]] = []
    config: dict[str, Any] = {}
    for name, key in family.keys.items():
        if isinstance(key, Only):
            config |= {name: key.value} if key.written else {}
        elif isinstance(key, Windows):
            config |= _window_keys(name, key, shape)
        elif isinstance(key, Key) and (found := all_of(shape, key.ours[0])):
            config[name] = key.theirs(found[0])
            if found[0] is not None and config[name] is None:
                differences.append((key.ours[0], found[0], "no such choice"))
                del config[name]
    differences += _beyond(shape, config, family)
    if differences:
        raise InexpressibleError(family, differences)
    return _nested(config)


class InexpressibleError(UserError):
    """A model that a family cannot be. differences: (key, what the model has, what the family has). distance: on how
    many axes they are."""

    def __init__(self, family: Family, differences: list[tuple[str, Any, Any]]):
        self.distance = len({key.partition(".")[0] for key, _, _ in differences})
        said = dict.fromkeys(
            f"{key} is {_listed(has)}, {family.model_type} has {_listed(other)}"
            for key, has, other in sorted(differences, key=lambda each: not each[0].endswith(".name"))
        )
        self._say(family, list(said))

    def _say(self, family: Family, said: list[str]) -> None:
        more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        self.args = (f"{family.architecture} cannot hold this model: {said[0]}{more}",)

    @classmethod
    def refused(cls, family: Family, reason: str) -> InexpressibleError:
        """Of a model for which there is not even a configuration."""
        error = cls(family, [("", "", "")])
        error.distance = 1000
        error._say(family, [reason])
        return error


def choose_family(model: GPT, wanted: str | None = None, hint: str | None = None) -> tuple[Family, dict[str, Any]]:
    """A family that can hold a model, and its ``config.json``. wanted: this one. hint: the one to try first.

    Raises UserError that names what the nearest family has otherwise.
    """
    if wanted is not None:
        return FAMILIES[wanted], config_from_model(model, FAMILIES[wanted])
    order = sorted(FAMILIES, key=lambda name: name != hint)
    refusals = []
    for name in order:
        try:
            return FAMILIES[name], config_from_model(model, FAMILIES[name])
        except InexpressibleError as error:
            refusals.append(error)
    nearest = min(refusals, key=lambda error: error.distance)
    raise UserError(f"no family of {', '.join(FAMILIES)} can hold this model. The nearest: {nearest}")


def _flat(config: Mapping[str, Any], family: Family, where: str) -> dict[str, Any]:
    """Keys and values with those of rotary positions spelt out, under the names that are in use today."""
    flat: dict[str, Any] = {}
    for group in ("rope_scaling", "rope_parameters"):  # the second is what the first became
        inner = config.get(group) or {}
        if not isinstance(inner, Mapping):
            raise UserError(f"{where}: {group}: expected an object of keys and values, got '{shown(inner)}'")
        flat |= {f"rope_parameters.{key}": value for key, value in inner.items()}
    rest = {str(key): value for key, value in config.items() if key not in ("rope_scaling", "rope_parameters")}
    for key, value in {**rest, **flat}.items():
        name = family.aliases.get(key)
        if name is None:
            rest[key] = value
            continue
        rest.pop(key, None)
        other = rest.get(name, flat.get(name))
        if value is not None and other is not None and value != other:
            raise UserError(f"{where}: {key} is {shown(value)}, and {name} is {shown(other)}: one says the other")
        if rest.get(name) is None:
            rest[name] = value if value is not None else other
    return {key: value for key, value in rest.items() if not (key in family.aliases.values() and value is None)}


def _resolved(given: Mapping[str, Any], family: Family, where: str) -> dict[str, Any]:
    """The value of every key of a table, a missing one's default put in its place."""
    keys = {name: key for name, key in family.keys.items() if not isinstance(key, Only)}
    found: dict[str, Any] = {}
    later: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
    for name, key in keys.items():
        default = key.default
        if callable(default) and given.get(name) is None:
            later[name] = default
            continue
        found[name] = given.get(name, default)
        if isinstance(key, Key):
            _check_kind(name, key.kind, found[name], where)
    for name, default in later.items():
        try:
            found[name] = default(found)
        except ZeroDivisionError:
            raise UserError(f"{where}: {name}: follows from numbers of which one is 0") from None
    return found


def _check_kind(name: str, kind: type, value: Any, where: str) -> None:
    allowed: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if value is None and kind is float:
        return
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{where}: {name}: expected {_WORDS[kind]}, got '{shown(value)}'")


def _ours(name: str, key: Key, value: Any, where: str) -> Any:
    try:
        return key.value(value)
    except KeyError:
        assert isinstance(key, Word)
        words = [str(word) for word in key.words]
        raise UserError(
            f"{where}: {name}: '{shown(value)}' is not among our parts.{did_you_mean(value, words)}\n"
            f"  known: {', '.join(words)}"
        ) from None


def _head_dim(values: dict[str, Any], where: str) -> None:
    if "head_dim" in values:
        return
    d_model, n_head = values["d_model"], values["n_head"]
    if n_head < 1 or d_model % n_head:
        raise UserError(f"{where}: {d_model} dimensions do not divide into {n_head} heads")
    values["head_dim"] = d_model // n_head


def _cut(values: dict[str, Any], block_size: int | None, where: str) -> None:
    if block_size is not None and block_size > values["block_size"]:
        raise UserError(f"block_size: {block_size} is more than the {values['block_size']} positions of {where}")
    values["block_size"] = block_size or values["block_size"]


def _windows(
    theirs: Mapping[str, Any], family: Family, values: Mapping[str, Any], where: str
) -> list[int | None] | None:
    """The window of every layer; None for families without."""
    for name, key in family.keys.items():
        if not isinstance(key, Windows):
            continue
        size, n_layer = theirs[name], min(values["n_layer"], 1 << 16)
        _check_kind(name, int, 1 if size is None else size, where)
        if key.switch is not None:
            _check_kind(key.switch, bool, theirs[key.switch], where)
            size = size if theirs[key.switch] else None
        for helper in (each for each in ("max_window_layers",) if each in theirs):
            _check_kind(helper, int, theirs[helper], where)
        types = None if key.types is None else theirs[key.types]
        if types is None:
            types = [_SLIDING if key.sliding(theirs, layer) else _FULL for layer in range(n_layer)]
        elif not isinstance(types, list) or len(types) != n_layer or not {*map(str, types)} <= {_SLIDING, _FULL}:
            raise UserError(f"{where}: {key.types}: expected {n_layer} of {_SLIDING} and {_FULL}, got '{shown(types)}'")
        seen = None if size is None or size >= values["block_size"] else size  # a longer one hides nothing
        return [seen if each == _SLIDING else None for each in types]
    return None


def _window_keys(name: str, key: Windows, shape: Shape) -> dict[str, Any]:
    window = shape.get("attention.window")
    layers = window if isinstance(window, tuple) else (window,) * shape["n_layer"]
    size = next((each for each in layers if each is not None), None)
    keys: dict[str, Any] = {name: shape["block_size"] if size is None and key.needed else size}
    if key.switch is not None:
        keys[key.switch] = size is not None
    if key.types is not None:
        keys[key.types] = [_FULL if each is None else _SLIDING for each in layers]
    return keys


def _beyond(shape: Shape, config: Mapping[str, Any], family: Family) -> list[tuple[str, Any, Any]]:
    """Where a model is another one than what comes back from a family's configuration."""
    where = f"{family.model_type} config.json"
    try:
        back = shape_of(GPT.on_meta(spec_from_config(_nested(config), family, where)))
    except UserError as error:
        raise InexpressibleError.refused(family, str(error).removeprefix(f"{where}: ")) from None
    keys = [key for key in {**shape, **back} if shape.get(key, _NONE) != back.get(key, _NONE)]
    other = tuple(key.removesuffix("name") for key in keys if key.endswith(".name"))
    keys = [key for key in keys if key.endswith(".name") or not key.startswith(other)]  # a part has options of its own
    found = [(key, shape.get(key, _NONE), back.get(key, _NONE)) for key in keys]
    return [(_at_all_sites(key, found, shape), has, other) for key, has, other in found]


def _at_all_sites(key: str, found: list[tuple[str, Any, Any]], shape: Shape) -> str:
    """``norm.eps`` for ``norm.mlp.eps`` where all sites differ in the same way, else the key itself."""
    axis, option = key.partition(".")[0], key.rpartition(".")[2]
    same = [each for each in shape if each.startswith(f"{axis}.") and each.endswith(f".{option}")]
    differ = {each: (has, other) for each, has, other in found if each in same}
    return f"{axis}.{option}" if len(differ) == len(same) > 1 and len(set(map(str, differ.values()))) == 1 else key


def _nested(config: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in config.items():
        group, _, name = key.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[name] = value
    return nested


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _or(value: Any, other: Any) -> Any:
    return other if value is None else value


def _listed(value: Any) -> str:
    return "/".join(dict.fromkeys(map(str, value))) if isinstance(value, tuple) else str(value)
