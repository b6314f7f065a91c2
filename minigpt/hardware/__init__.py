"""Machines: specs x counts -> energy, latency, area. Knows cost records only, never a component.

``load("edge_16nm")`` reads a machine; ``price(spec, model.cost, context=1024)`` gives its :class:`Ppa`.
"""

from minigpt.hardware.ppa import ComponentPpa, Interval, Ppa, Ratio, UnitPpa, interval, ppa, price, ratio_to_baseline
from minigpt.hardware.pricing import Area, Energy, Latency
from minigpt.hardware.spec import HardwareSpec, from_plain, load

__all__ = [
    "Area",
    "ComponentPpa",
    "Energy",
    "HardwareSpec",
    "Interval",
    "Latency",
    "Ppa",
    "Ratio",
    "UnitPpa",
    "from_plain",
    "interval",
    "load",
    "ppa",
    "price",
    "ratio_to_baseline",
]
