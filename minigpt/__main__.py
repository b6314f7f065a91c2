"""python -m minigpt: what can be chosen."""

from __future__ import annotations

import argparse
import json

from minigpt import catalogue, cli, registry
from minigpt.plugins import load_plugins

EPILOG = """entry points of the project, each with --help:
  python train.py                 train; any part by name: attention=linear norm=dyt; -m for sweeps
  python sample.py                continue a prompt with a trained model
  python hyperparam_search.py     greedy search over sizes and names
  python data/prepare.py          text to tokens
  python analysis/ppa_report.py   what runs cost on hardware, against what they reach
  python analysis/checkpoint_analysis/inspect_ckpts.py   runs and checkpoints in a table
"""


def main(arguments: list[str] | None = None) -> None:
    """Read a command line (None: the process's) and do what it says; exit code 2 for a mistake in it."""
    parser = argparse.ArgumentParser(
        prog="python -m minigpt",
        description="Swap any part of a GPT by name, train it, and see what the swap costs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")
    components = commands.add_parser(
        "components",
        help="list what is registered: names, papers, options, what each learns and can do",
        description="List what is registered: all axes in one table, or everything about one axis.",
    )
    components.add_argument("axis", nargs="?", help=f"one of {', '.join(registry.axes())}")
    components.add_argument("--json", action="store_true", help="everything, as JSON")
    components.add_argument(
        "--plugins", default="", metavar="MODULES", help="modules to import first, with commas between"
    )
    given = parser.parse_args(arguments)
    with cli.reported_errors():
        load_plugins([name for name in given.plugins.split(",") if name])
        _list_components(given.axis, as_json=given.json)


def _list_components(axis: str | None, *, as_json: bool) -> None:
    axes = list(registry.axes()) if axis is None else [axis]
    if as_json:
        print(json.dumps([catalogue.as_json(v) for each in axes for v in catalogue.variants(each)], indent=1))
    elif axis is None:
        catalogue.show_overview(axes)
    else:
        catalogue.show_axis(axis)


if __name__ == "__main__":
    main()
