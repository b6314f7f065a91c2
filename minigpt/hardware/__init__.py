"""Machines: specs x counts -> energy, latency, area. Knows cost records only, never a component.

``load("edge_16nm")`` reads a machine; ``price(spec, model.cost, context=1024)`` gives its :class:`Ppa`.
"""

from minigpt.hardware.ppa import Comparison, ComponentPpa, Interval, Ppa, UnitPpa, compare, interval, ppa, price
from minigpt.hardware.pricing import Area, Energy, Latency
from minigpt.hardware.spec import HardwareSpec, from_plain, load

__all__ = [
    "Area",
    "Comparison",
    "ComponentPpa",
    "Energy",
    "HardwareSpec",
    "Interval",
    "Latency",
    "Ppa",
    "UnitPpa",
    "compare",
    "from_plain",
    "interval",
    "load",
    "ppa",
    "price",
]
