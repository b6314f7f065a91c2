"""What each step could have chosen, as a page and pictures: ``heatmaps.html`` and PNG files in one new folder.

Probabilities are the model's own, before temperature and truncation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.files import plainly, write_text
from minigpt.generation.colour import HEAT, LEVELS, SCALE, letters_on, level, mixed
from minigpt.generation.config import Kind
from minigpt.generation.growing import Piece
from minigpt.generation.scoring import Scores
from minigpt.screen import readable, visible

TOP = 10  # of the likeliest tokens are shown of each step
PAGE = "heatmaps.html"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A token that a step could have chosen. text: as a label. chosen: it was."""

    text: str
    probability: float
    chosen: bool


@dataclasses.dataclass(frozen=True)
class Choice:
    """One step. candidates: the likeliest, best first, and at the end the chosen one if it is none of them."""

    number: int
    chosen: Candidate
    rank: int
    entropy: float
    candidates: tuple[Candidate, ...]


@dataclasses.dataclass(frozen=True)
class Shown:
    """One scored text. title: a word about it. before: the text it follows. pieces: its own, each with its scores."""

    title: str
    before: str
    tokens: Sequence[int]
    pieces: Sequence[Piece]
    scores: Scores


def new_folder(out: str | None, model: Path) -> Path:
    """Make the folder to write to: ``out``, else a new one beside the run. model: a checkpoint's place.

    Raises UserError when ``out`` is there and not empty, for nothing is overwritten, or cannot be made.
    """
    if out is not None:
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"out: {folder} is there already and is not overwritten. Choose a new folder")
    else:
        run = model.resolve()
        if run.parent.name == "checkpoint":
            run = run.parent.parent
        number = 1
        while (folder := run.with_name(f"{run.name}-heatmaps-{number}")).exists():
            number += 1
    with plainly(folder, "made", " Choose another place: out=<folder>"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(folder: Path, shown: Sequence[Shown], tokenizer: Tokenizer, kind: Kind = "probability") -> list[Path]:
    """Write the page of all texts and the pictures of each into a folder that is there; returns the files.

    kind: what colours the texts.

    Raises UserError when the system refuses.
    """
    from minigpt.generation.pictures import draw

    made = [list(choices(each, tokenizer)) for each in shown]
    write_text(folder / PAGE, page(shown, made, kind))
    files = [folder / PAGE]
    for number, (each, steps) in enumerate(zip(shown, made, strict=True), start=1):
        files += draw(folder, f"{number}", each.title, steps)
    return files


def page(shown: Sequence[Shown], steps: Sequence[Sequence[Choice]], kind: Kind) -> str:
    """One self-contained page: nothing is fetched, light or dark as the reader's system is."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "heat": _heat, "shown": readable}
    scale = [(words, _css(SCALE[place])) for place, words in enumerate(LEVELS[kind])]
    texts = [(each, list(_spans(each, kind)), made) for each, made in zip(shown, steps, strict=True)]
    return environment.get_template("heatmaps.html.j2").render(kind=kind, scale=scale, texts=texts, top=TOP)


def label(token: int, tokenizer: Tokenizer) -> str:
    """A token as a word in a table: its space and its line break can be seen; #7 when it is no whole character."""
    text = tokenizer.decode([token])
    if not text or "\N{REPLACEMENT CHARACTER}" in text:
        return f"#{token}"
    return visible(text).replace(" ", "\N{OPEN BOX}")


def percent(share: float) -> str:
    """A probability in per cent, to two digits."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def choices(each: Shown, tokenizer: Tokenizer) -> Iterator[Choice]:
    """The steps of a text; its scores have the likeliest tokens of each."""
    scores = each.scores
    for step, token in enumerate(each.tokens):
        chosen = Candidate(label(token, tokenizer), math.exp(scores.logprob[step]), True)
        found = [
            Candidate(label(other, tokenizer), math.exp(logprob), other == token)
            for other, logprob in zip(scores.top[step].tolist(), scores.top_logprob[step].tolist(), strict=True)
        ]
        if not any(candidate.chosen for candidate in found):
            found.append(chosen)
        yield Choice(step + 1, chosen, int(scores.rank[step]), float(scores.entropy[step]), tuple(found))


def _spans(each: Shown, kind: Kind) -> Iterator[tuple[str, str, str]]:
    """(text, its colours, what is known of it) of each piece."""
    for piece in each.pieces:
        tokens = range(piece.first, piece.last)
        known = "; ".join(
            f"p {percent(math.exp(each.scores.logprob[i]))}, rank {int(each.scores.rank[i])}, "
            f"{float(each.scores.entropy[i]):.2f} bits"
            for i in tokens
        )
        yield piece.text, _css(mixed(level(kind, each.scores, piece.first, piece.last))), known


def _heat(share: float) -> str:
    """The colours of a cell with this probability: the likelier, the darker."""
    return _css(mixed(4 * share, HEAT))


def _css(colour: tuple[int, int, int]) -> str:
    return "background:#{:02x}{:02x}{:02x};color:#{:02x}{:02x}{:02x}".format(*colour, *letters_on(colour))
