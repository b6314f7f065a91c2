"""pydocs: the Python language reference, the English text that every CPython ships (pydoc_data.topics). Works offline.

About 375 000 characters of Python 3.11 (later versions: a little more). Topics quote each other at length, so a
paragraph is kept only where it first appears: otherwise 9 % of the validation text would stand word by word in the
training text; now 0.6 %. Typographic characters become ASCII and the vocabulary is printable ASCII and newline on
every Python: 96 characters, so a model trained under one version reads the text of another.
"""

import string
import unicodedata

from minigpt.data.recipe import Recipe
from minigpt.errors import UserError

ASCII = "\n" + "".join(sorted(set(string.printable) - set(string.whitespace) | {" "}))
TYPOGRAPHY = str.maketrans(
    {
        "\u2018": "'",  # quotation marks, single and double
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",  # dashes
        "\u2014": "-",
        "\u2026": "...",
        "\u00df": "ss",
        "\u00b0": " degrees",
        "\t": "    ",
    }
)


def documents() -> list[str]:
    """One document: all topics, in alphabetical order."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError(
            "pydocs: this Python was installed without pydoc_data.topics; use dataset=shakespeare_char"
        ) from None
    seen: set[str] = set()
    kept = []
    for name in sorted(topics):
        fresh = [p for p in to_ascii(topics[name]).split("\n\n") if p.strip() and p.strip() not in seen]
        seen.update(p.strip() for p in fresh)
        if len(fresh) > 1:  # a heading alone says nothing
            kept.append("\n\n".join(p.rstrip().strip("\n") for p in fresh))
    return ["\n\n\n".join(kept) + "\n"]


def to_ascii(text: str) -> str:
    """Replace typographic characters by what one types for them, and drop what has no such form."""
    spelled = unicodedata.normalize("NFKD", text.translate(TYPOGRAPHY))
    return "".join(c for c in spelled if c in ASCII)


recipe = Recipe(documents=documents, characters=ASCII, built_in=True)
