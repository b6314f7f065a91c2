"""What is installed: the package, and in it the folders that people choose from (minigpt/shipped.py finds them)."""

from setuptools import find_packages, setup

FOLDERS = {"minigpt.conf": "conf", "minigpt.explorations": "explorations", "minigpt.recipes": "data"}

setup(
    packages=[*find_packages(include=["minigpt*"]), *FOLDERS],
    package_dir=FOLDERS,
    package_data={
        "minigpt": ["py.typed"],
        "minigpt.components.embedding": ["example.safetensors"],
        "minigpt.report": ["templates/*.j2"],
        "minigpt.generation": ["templates/*.j2"],
        "minigpt.conf": ["**/*.yaml"],
        "minigpt.explorations": ["*.yaml"],
        "minigpt.recipes": ["*/dataset.py"],
    },
)
