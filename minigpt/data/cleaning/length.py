"""Documents too short to teach anything, or too long to be a document."""

from __future__ import annotations

from minigpt.data.cleaning.base import Dropped, Filter
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import NonNegativeInt, PositiveInt, options


@register("clean", "length")
class Length(Filter):
    """Drops a document outside of the bounds.

    min_characters, max_characters: of the text. min_words, max_words: between spaces. null is no bound.
    """

    @options
    class Config:
        min_characters: NonNegativeInt = 200
        max_characters: PositiveInt | None = None
        min_words: NonNegativeInt = 0
        max_words: PositiveInt | None = None

    def __init__(self, config: Config):
        for unit in ("characters", "words"):
            least, most = getattr(config, f"min_{unit}"), getattr(config, f"max_{unit}")
            if most is not None and most < least:
                raise UserError(f"clean: length: max_{unit}={most} is below min_{unit}={least}, nothing would be left")
        if not config.min_characters and not config.min_words and config.max_characters == config.max_words is None:
            raise UserError("clean: length: has no bound, it would do nothing. Leave the step out")
        self.config = config
        self._counts_words = config.min_words > 0 or config.max_words is not None

    def judge(self, text: str) -> Dropped | None:
        counts = {"characters": len(text)} | ({"words": len(text.split())} if self._counts_words else {})
        for unit, count in counts.items():
            least, most = getattr(self.config, f"min_{unit}"), getattr(self.config, f"max_{unit}")
            if count < least:
                return Dropped(f"fewer than {least:,} {unit}", f"{count:,}")
            if most is not None and count > most:
                return Dropped(f"more than {most:,} {unit}", f"{count:,}")
        return None
