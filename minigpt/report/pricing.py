"""What the models of a listing cost on a machine. Models that are alike but for their seed are priced once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigpt.checkpoint_folder import read_json
from minigpt.errors import UserError
from minigpt.hardware import HardwareSpec
from minigpt.report.listing import Entry

Prices = dict[str, dict[str, Any] | str]
"""Model -> its figures, or why it has none: what was priced before, for who looks again and again."""


def priced(entries: Sequence[Entry], hardware: HardwareSpec, known: Prices) -> list[Entry]:
    """The entries with energy_mj, latency_ms and area_mm2 of one decoded token at the model's own context.

    Those of other projects have none, nor those with parts that are not registered here: their reason says so. known:
    of the same machine; what is priced is added.
    """
    found = []
    for entry in entries:
        folder = _with_model(entry)
        if folder is None:
            found.append(entry)
            continue
        try:
            content = read_json(folder, "model.json")
            key = json.dumps({k: v for k, v in content.items() if k != "seed"}, sort_keys=True)
        except UserError as error:
            found.append(dataclasses.replace(entry, reason=f"{entry.reason} {error}".strip()))
            continue
        if key not in known:
            known[key] = _price(folder, hardware)
        price = known[key]
        if isinstance(price, str):
            found.append(dataclasses.replace(entry, reason=f"{entry.reason} not priced: {price}".strip()))
        else:
            found.append(dataclasses.replace(entry, values={**entry.values, **price}))
    return found


def _with_model(entry: Entry) -> Path | None:
    folder = entry.record.folder if entry.record else entry.path
    return folder if (folder / "model.json").is_file() else None


def _price(folder: Path, hardware: HardwareSpec) -> dict[str, Any] | str:
    from minigpt.hardware import price
    from minigpt.model import GPT, read_spec

    try:
        model = GPT.on_meta(read_spec(folder))
        ppa = price(hardware, model.cost, context=model.spec.block_size)
    except UserError as error:
        return str(error)
    return {
        "energy_mj": ppa.energy_per_token_mj, "latency_ms": ppa.decode.calibrated_s * 1e3, "area_mm2": ppa.area_mm2,
    }  # fmt: skip
