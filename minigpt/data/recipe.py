"""Recipes: how a dataset of this project is made. ``data/<name>/dataset.py`` holds one, as the variable ``recipe``.

A recipe is code of the project, like a component; nothing is ever imported from a prepared folder elsewhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from minigpt.errors import UserError, unknown
from minigpt.schema import options
from minigpt.shipped import RECIPES

KINDS = ("char", "byte", "tiktoken", "bpe")
"""The tokenizers that can be asked for by name; a tokenizer.json is one by its path."""


@options
class Recipe:
    """How a dataset is made.

    documents: returns its texts. tokenizer, encoding: what they are encoded with unless the command line says
    otherwise. val_fraction: of the characters, from the end. characters: a char vocabulary that does not depend on the
    text. built_in: needs no network, so a training run may prepare it on the spot.
    """

    documents: Callable[[], list[str]]
    tokenizer: str = "char"
    encoding: str = "gpt2"
    val_fraction: float = 0.1
    characters: str | None = None
    built_in: bool = False


def recipe_names() -> list[str]:
    """The datasets this project knows how to make."""
    return sorted(path.parent.name for path in RECIPES.glob("*/dataset.py"))


def load_recipe(name: str) -> Recipe:
    """The recipe of ``data/<name>/dataset.py``. Raises UserError when there is none."""
    if name not in recipe_names():
        raise unknown("dataset", name, "no recipe for dataset", recipe_names())
    path = RECIPES / name / "dataset.py"
    spec = importlib.util.spec_from_file_location(f"minigpt_recipe_{name}", path)
    assert spec is not None  # it is a .py file that exists
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recipe = getattr(module, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise UserError(f"{path}: expected a variable 'recipe' that is a minigpt.data.recipe.Recipe")
    if recipe.tokenizer not in KINDS:
        raise unknown(str(path), recipe.tokenizer, "unknown tokenizer", KINDS)
    return recipe
