"""The notebooks of docs/notebooks run from top to bottom, in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """One folder for all: the built-in text is prepared once."""
    return tmp_path_factory.mktemp("notebooks")


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_every_cell_has_been_run(notebook, place):
    nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra 'notebooks'")
    nbclient = pytest.importorskip("nbclient", reason="notebooks need the extra 'notebooks'")
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    shown = [bool(cell.outputs) for cell in book.cells if cell.cell_type == "code"]
    nbclient.NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    ).execute()
    assert [
        bool(cell.outputs) for cell in book.cells if cell.cell_type == "code"
    ] == shown  # readers see what it prints
