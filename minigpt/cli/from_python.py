"""The command line's grammar for Python: keyword arguments become its words, so that both mean the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt import config, registry, schema
from minigpt.cli import choices, words
from minigpt.cli.entry import chosen, explain, said
from minigpt.errors import UserError
from minigpt.plugins import load_plugins
from minigpt.search.sweeper import element
from minigpt.shipped import CONF

_WHOLE = ("blocks", "layers", "sites", "share", "hardware")
"""Keys whose mapping is one value, with names of the user's own in it."""


def composed(given: Sequence[str], choices_made: Mapping[str, Any]) -> tuple[config.TrainConfig, dict[str, Any]]:
    """The checked configuration that ``train`` would have with these words, and what was said, by key.

    given: words as typed (``"attention.n_kv_head=2"``). choices_made: the same as values: ``attention="gqa"``,
    ``model={"n_layer": 4}``, ``attention={"name": "causal", "n_kv_head": 2}``. Raises UserError as the command does.
    """
    from hydra import compose

    arguments = _arguments(given, spelled(choices_made))
    with _hydra():
        made = compose(config_name="train", overrides=arguments)
        return config.check(chosen(made, arguments), config.TrainConfig), said(arguments)


def swept(given: Sequence[str], choices_made: Mapping[str, Any]) -> Path:
    """Run a sweep as ``train -m`` does; a list is the values to try. Returns the study's folder.

    Raises UserError as the command does, and when no trial has completed.
    """
    from hydra.core.global_hydra import GlobalHydra

    arguments = _arguments(given, spelled(choices_made, sweep=True), "-m")
    with _hydra():
        running = GlobalHydra.instance().hydra
        assert running is not None
        folder = running.multirun(
            config_name="train", task_function=_never, overrides=arguments[1:], with_log_configuration=False
        )
    return Path(folder)


def spelled(values: Mapping[str, Any], *, sweep: bool = False) -> list[str]:
    """Keyword arguments as words of the command line, options after the choices they belong to.

    sweep: a list is the values to try; of a key whose value is a list, a list of lists.
    """
    pairs = [pair for key, value in values.items() for pair in _flat(key, value)]
    return [f"{key}={_word(key, value, sweep)}" for key, value in sorted(pairs, key=lambda pair: "." in pair[0])]


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """``attention={"name": "gqa", "window": 4}`` as attention and attention.window; a whole mapping as it is."""
    if not isinstance(value, Mapping) or key in _WHOLE:
        yield key, value
        return
    named = key in choices.groups() and (
        key in registry.axes() or f"{key}.name" not in schema.paths(config.TrainConfig)
    )
    for name, inner in value.items():
        if not isinstance(name, str):
            raise UserError(f"{key}: expected names of options, got {name!r}")
        yield from _flat(key if named and name == "name" else f"{key}.{name}", inner)


def _word(key: str, value: Any, sweep: bool) -> str:
    if sweep and isinstance(value, (list, tuple)) and (key not in _list_keys() or _holds_lists(value)):
        if not value:
            raise UserError(f"{key}: an empty list, there is nothing to try")
        return ",".join(_text(each) for each in value)
    text = _text(value)
    return words.in_quotes(text) if sweep and isinstance(value, str) and "," in text else text


def _text(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return os.fspath(value)  # type: ignore[return-value]
    if value is not None and not isinstance(value, (str, int, float, list, tuple, Mapping)):
        raise UserError(f"{value!r}: is no value of a configuration. Expected text, a number, a list or a mapping")
    return value if isinstance(value, str) else element(value)


def _holds_lists(values: Sequence[Any]) -> bool:
    return all(isinstance(each, (list, tuple)) for each in values)


def _list_keys() -> set[str]:
    """The keys of a training configuration whose value is a list."""
    plain = schema.defaults(config.TrainConfig)
    return {key for key, value in plain.items() if isinstance(value, (list, tuple))} | {"pattern"}


def _arguments(given: Sequence[str], spelt: Sequence[str], *flags: str) -> list[str]:
    """What Hydra is to compose; flags first."""
    for word in given:
        if not isinstance(word, str) or word.startswith("-"):
            raise UserError(f"{word!r}: expected words of the command line, such as 'model.n_layer=4'")
    typed = [*flags, *given, *spelt]
    load_plugins(words.plugins_named(typed))
    schema.keys(config.TrainConfig)
    choices.store_components()
    choices.store_explorations()
    return words.in_hydras_words(typed, config.TrainConfig)


class _hydra:
    """Context manager: Hydra over our conf, beside whatever Hydra the caller runs in; its errors in our words."""

    def __enter__(self) -> None:
        from hydra import initialize_config_dir

        self._inner = initialize_config_dir(version_base=None, config_dir=str(CONF))
        self._inner.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        self._inner.__exit__(kind, error, trace)
        if isinstance(error, (HydraException, OmegaConfBaseException)):
            raise explain(error) from None
        if isinstance(error, SystemExit):
            raise UserError("no trial of the sweep completed; their folders say why (run.json, trial.log)") from None


def _never(_: Any) -> None:
    raise AssertionError("a sweep trains in workers of its own")
