"""Numbers as a reader wants them; files for programs have them in full precision."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 4) -> str:
    """A number for a reader: significant digits, no exponent where none is needed, a dash for an unknown one."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if -4 <= magnitude < 7:
        return f"{value:,.{max(0, digits - 1 - magnitude)}f}"
    return f"{value:.{digits - 1}e}"


def count(value: float) -> str:
    """A large count with its SI prefix: 124.4 M."""
    for size, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            scaled = value / (1e3 if prefix == " k" else size)
            return f"{number(scaled)}{prefix}"
    return f"{value:,.0f}" if float(value).is_integer() else number(value)


def percent(share: float) -> str:
    """A share as per cent with two digits or, from ten per cent on, one decimal where it says something."""
    shown = number(100 * share, 2 if abs(share) < 0.1 else 3)
    return f"{shown.removesuffix('.0')} %"
