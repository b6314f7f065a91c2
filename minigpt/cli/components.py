"""What can be chosen: ``minigpt components``."""

from __future__ import annotations

import json

from minigpt import catalogue, registry
from minigpt.cli.entry import entry
from minigpt.schema import options


@options
class ComponentsConfig:
    """What to list.

    axis: everything about this one; null is a table of all. json: everything, as JSON. plugins: modules to import
    first, which register more.
    """

    axis: str | None = None
    json: bool = False
    plugins: list[str] = ()  # type: ignore[assignment]


@entry("components", ComponentsConfig, first="axis")
def main(config: ComponentsConfig) -> None:
    """List what is registered: names, papers, options, what each learns and can do.

    {this}             every variant of every axis, in a table
    {this} softmax     everything about one axis
    """
    axes = list(registry.axes()) if config.axis is None else [config.axis]
    if config.json:
        print(json.dumps([catalogue.as_json(v) for each in axes for v in catalogue.variants(each)], indent=1))
    elif config.axis is None:
        catalogue.show_overview(axes)
    else:
        catalogue.show_axis(config.axis)
