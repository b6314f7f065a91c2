"""Search a configuration step by step: ``python hyperparam_search.py search=demo [key=value ...]``."""

from minigpt.cli.search import main

if __name__ == "__main__":
    main()
