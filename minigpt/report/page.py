"""What the pages of all reports share: templates that escape, and pictures in the colours of the page."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from minigpt.report.numbers import count, number, percent
from minigpt.screen import markdown

TEMPLATES = Path(__file__).parent / "templates"
INK = "#0a0b0c"
"""Stands for the page's text colour inside a picture."""


def render(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **content: Any) -> str:
    """A page of a template. Whatever is put into HTML is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "count": count, "percent": percent, "md": markdown, **(filters or {})}
    return environment.get_template(template).render(**content)


@contextlib.contextmanager
def drawing(ink: str) -> Iterator[None]:
    """Context manager: matplotlib draws without a screen, in one ink, the same picture every time."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    coloured = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor", "grid.color")
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "minigpt", "font.family": "sans-serif", "font.size": 11}
    with pyplot.rc_context(style | dict.fromkeys(coloured, ink) | {"text.parse_math": False, "axes.facecolor": "none"}):
        yield


def svg_of(figure: Any) -> str:
    """A picture as inline SVG in the page's text colour; the figure is closed."""
    from matplotlib import pyplot

    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")
