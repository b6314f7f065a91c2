"""Where the folders are that people choose from: beside the package in a checkout, inside it once it is installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str, installed_as: str) -> Path:
    inside = _PACKAGE / installed_as
    return inside if inside.is_dir() else _PACKAGE.parent / name


CONF = _folder("conf", "conf")
"""Named choices: ``conf/<group>/<name>.yaml``."""

EXPLORATIONS = _folder("explorations", "explorations")
"""Sweeps: ``explorations/<name>.yaml``."""

RECIPES = _folder("data", "recipes")
"""How datasets are made: ``data/<name>/dataset.py``."""
