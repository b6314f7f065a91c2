"""The greedy search: ``minigpt search``, ``python hyperparam_search.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.search.greedy import SearchConfig


@entry("hyperparam_search", SearchConfig)
def main(search: SearchConfig) -> int:
    """Search a configuration step by step: what gains more than it costs is kept, and asked again on fresh seeds.

    {this} search=demo                      the space of conf/search/demo.yaml
    {this} search=demo model.n_layer=3      from another start
    {this} 'search.space={norm: [rmsnorm, dyt], model.n_layer: {step: 1}}'
    """
    from minigpt.search.greedy import run_search

    return run_search(search)
