"""The command line: ``python train.py``, ``minigpt train`` and their like share one grammar and one way to fail."""

from minigpt.cli.choices import store_components, store_explorations
from minigpt.cli.entry import entry, given, reported_errors
from minigpt.shipped import CONF

__all__ = ["CONF", "entry", "given", "reported_errors", "store_components", "store_explorations"]
