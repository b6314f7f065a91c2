"""Search a configuration step by step: ``python hyperparam_search.py search=demo [key=value ...]``."""

from __future__ import annotations

from minigpt import cli
from minigpt.search.greedy import SearchConfig


@cli.entry("hyperparam_search", SearchConfig)
def main(search: SearchConfig) -> int:
    from minigpt.search.greedy import run_search

    return run_search(search)


if __name__ == "__main__":
    main()
