"""Documents in another language than those wanted."""

from __future__ import annotations

import functools
from typing import Any

from minigpt.data.cleaning.base import Dropped, Filter
from minigpt.errors import UserError, unknown
from minigpt.registry import register
from minigpt.schema import Fraction, PositiveInt, options


@register("clean", "language")
class Language(Filter):
    """Drops a document that is not in one of the languages of ``keep``, as far as langid can tell.

    Lui and Baldwin 2012, in the 97 languages of py3langid. keep: their codes, such as en. among: the languages it
    chooses from, all where it is empty: fewer make it surer, and a text in none of them gets one of them all the same.
    probability: how sure it has to be. characters: of the beginning, that it looks at.
    """

    @options
    class Config:
        keep: list[str] = ("en",)  # type: ignore[assignment]
        among: list[str] = ()  # type: ignore[assignment]
        probability: Fraction = 0.7
        characters: PositiveInt = 500

    def __init__(self, config: Config):
        known = _languages()
        for key in ("keep", "among"):
            for code in getattr(config, key):
                if code not in known:
                    raise unknown(f"clean: language.{key}", code, "there is no language", known)
        if not config.keep:
            raise UserError("clean: language.keep: is empty, expected codes of languages such as [en]")
        if config.among and not set(config.keep) <= set(config.among):
            raise UserError("clean: language.keep: holds languages that among does not, so none would ever be found")
        if set(config.keep) == set(config.among or known):
            raise UserError("clean: language: keeps every language that it chooses from. Leave the step out")
        self.config = config
        self._identify = _model(tuple(config.among)).classify

    def judge(self, text: str) -> Dropped | None:
        language, probability = self._identify(text[: self.config.characters])
        if language not in self.config.keep:
            return Dropped(f"in none of {', '.join(self.config.keep)}", f"{language}, {probability:.2f}")
        if probability < self.config.probability:
            return Dropped(f"less than {self.config.probability:g} sure", f"{language}, {probability:.2f}")
        return None


def _languages() -> list[str]:
    return sorted(str(code) for code in _model().labels)


@functools.cache
def _model(among: tuple[str, ...] = ()) -> Any:
    """The identifier of langid, whose probabilities add up to 1."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError("clean: language needs py3langid: pip install 'minigpt[data]'") from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if among:
        identifier.set_languages(list(among))
    return identifier
