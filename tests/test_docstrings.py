"""Every variant's docstring says what it is: formula, source, and what is learned with its shapes."""

from __future__ import annotations

import re

import pytest

from minigpt import catalogue, registry

VARIANTS = {
    f"{axis}={variant.name}": variant
    for axis in registry.axes()
    if axis != "clean"  # steps over text have no formula
    for variant in catalogue.variants(axis)
}

FORMULA = re.compile(r"\S [-+]?= \S")
"""With room around the sign: ``softmax=consmax`` is how a variant is chosen, not what it computes."""

SOURCE = re.compile(
    r"arXiv:\d{4}\.\d{4,5}\b"
    r"|\b[A-Z][^\W\d_]+[^\d():;]{0,60}? (?:19|20)\d\d\b"  # Radford et al. 2019; Maas, Hannun & Ng, ICML 2013
    r"|\btorch(?:\.\w+)*\.[A-Za-z]\w+"  # what PyTorch defines: torch.nn.Identity
    r"|\bNo paper\b"
)

SIZE = r"(?:[\w.+*/ -]|\([\w.+*/ -]*\))+"
SHAPE = re.compile(rf"\((?:|{SIZE},|{SIZE}(?:,\s{SIZE})+)\)")
"""(), (H,) or (d_model, 2 hidden)."""


def shapes(doc: str) -> list[str]:
    """Those of the paragraphs that speak of what is learned, but for what passes through: (B, T, d_model)."""
    told = "\n".join(each for each in doc.split("\n\n") if re.search(r"\b[Ll]earn(?:s|ed)\b", each))
    return [shape for shape in SHAPE.findall(told) if not shape.startswith("(B,")]


def dimensions(shape: str) -> int:
    return len([size for size in shape[1:-1].split(",") if size.strip()])


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_docstring_has_a_formula_and_a_source(variant):
    assert FORMULA.search(variant.doc), f"{variant.module}: no formula, such as y = x W^T"
    assert SOURCE.search(variant.doc), (
        f"{variant.module}: no source: arXiv:<id>, author and year, torch.<what defines it>, or 'No paper' and where "
        f"it is in use"
    )


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_no_dot_of_a_formula_ends_the_summary(variant):
    assert all(variant.summary.count(a) == variant.summary.count(b) for a, b in ("()", "[]")), variant.summary


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_docstring_names_what_is_learned_with_its_shapes(variant):
    learned = catalogue.abilities(variant).learned
    if not learned:
        return
    known = {dimensions(shape) for shape in shapes(variant.doc)}
    for name, shape in learned.items():
        assert len(shape) in known, f"{variant.module}: does not say that it learns {name}: {shape}"


@pytest.mark.parametrize(
    ("text", "formula", "source"),
    [
        ("y = x.  Radford et al. 2019, section 2.3.", True, True),
        ("y = x.  Maas, Hannun & Ng, ICML 2013.", True, True),
        ("p -= lr g: torch.optim.SGD.", True, True),
        ("y = f(x). No paper; in use elsewhere.", True, True),
        ("Choose softmax=consmax; torch has it as one operation, of 2000 tokens.", False, False),
    ],
)
def test_what_counts_as_a_formula_and_as_a_source(text, formula, source):
    assert (bool(FORMULA.search(text)), bool(SOURCE.search(text))) == (formula, source)


@pytest.mark.parametrize(
    ("shape", "count"), [("()", 0), ("(H,)", 1), ("(H d, C)", 2), ("(H (d + d_r), C)", 2), ("(2, 2, d / 2)", 3)]
)
def test_what_counts_as_a_shape(shape, count):
    doc = f"y = f(a, b), (B, T, C) -> (E, T).\n\nLearns a: {shape}, as f(x) does, of x (B, T, C)."
    assert [dimensions(found) for found in shapes(doc)] == [count]
