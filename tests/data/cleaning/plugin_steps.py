"""A step from outside."""

from minigpt.data.cleaning.base import Dropped, Filter
from minigpt.registry import register
from minigpt.schema import options


@register("clean", "no_word")
class NoWord(Filter):
    """Drops documents with a word. word: which."""

    @options
    class Config:
        word: str = "spam"

    def __init__(self, config):
        self.word = config.word

    def judge(self, text):
        return Dropped(f"has {self.word}") if self.word in text else None
