"""The wheel, installed away from the checkout and used in an empty folder: everything people choose from is inside."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SIZES = ("model.d_model=16", "model.n_head=2", "model.n_layer=1", "model.block_size=16", "data.val_tokens=64")


def call(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, without network and with the build tools of this environment."""
    source = tmp_path_factory.mktemp("source") / "minigpt"
    source.mkdir()
    prepared = shutil.ignore_patterns("*.bin", "*.json", "__pycache__", ".making-*")
    for name in ("minigpt", "conf", "explorations", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=prepared)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ("pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist")
    done = call(sys.executable, "-m", *build, cwd=source)
    assert done.returncode == 0, done.stderr
    (found,) = (source / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory) -> Path:
    """The folder of the console command in an environment that has the wheel, and of this one what minigpt needs."""
    place = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "needs.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    install = ("install", "--no-deps", "--no-index", "--quiet", wheel)
    done = call(sys.executable, "-m", "pip", "--python", place / "bin" / "python", *install, cwd=place)
    assert done.returncode == 0, done.stderr
    where = call(place / "bin" / "python", "-c", "import minigpt.shipped as s; print(s.CONF)", cwd=place)
    assert Path(where.stdout.strip()) == packages / "minigpt" / "conf"
    return place / "bin"


def test_the_wheel_holds_what_people_choose_from_and_nothing_that_was_made(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("conf", "conf"), ("explorations", "explorations")):
        for file in (ROOT / folder).rglob("*.yaml"):
            assert f"minigpt/{inside}/{file.relative_to(ROOT / folder)}" in names
    for recipe in (ROOT / "data").glob("*/dataset.py"):
        assert f"minigpt/recipes/{recipe.relative_to(ROOT / 'data')}" in names
    assert {"minigpt/py.typed", "minigpt/report/templates/ppa_report.html.j2"} <= names
    assert not [name for name in names if name.endswith((".bin", ".sh")) or name.startswith(("tests", "analysis"))]


def test_every_command_works_in_an_empty_folder(commands, tmp_path):
    def minigpt(*arguments: str) -> str:
        done = call(commands / "minigpt", *arguments, cwd=tmp_path)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    budget = ("training.max_steps=2", "training.batch_size=2", "device=cpu")
    assert "completed" in minigpt("train", "model=tiny", *SIZES, *budget, "name=one")
    assert (tmp_path / "data" / "pydocs" / "train.bin").is_file()
    assert (tmp_path / "out" / "one" / "run.json").is_file()
    assert (
        "tokens/s"
        in call(commands / "minigpt", "sample", "checkpoint=out/one", "max_new_tokens=3", cwd=tmp_path).stderr
    )
    minigpt("sweep", *SIZES, *budget, "norm=rmsnorm,dyt", "study=norms")
    assert "mJ/token" in minigpt("report", "ppa", "runs=out/norms", "hardware=edge_16nm")
    assert (tmp_path / "out" / "norms" / "ppa" / "report.html").is_file()
    assert "3 runs in out" in minigpt("inspect", "--directory", "out", "--sort", "loss")
    assert "out/one" in minigpt("inspect", "--path", "out/one")
    assert "already" in minigpt("prepare", "pydocs")
    assert "softmax=consmax" in minigpt("components", "softmax")
    assert "search.rounds" in minigpt("search", "--help")
    assert minigpt("--version").startswith("minigpt ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
