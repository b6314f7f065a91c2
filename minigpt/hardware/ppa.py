"""Power, performance and area of one model on one machine: a Cost tree in, named figures out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigpt.cost import Cost, Work
from minigpt.hardware import pricing
from minigpt.hardware.constants import draw, nominal, only_verified
from minigpt.hardware.demand import ActivationBytes, Demand, demand, fused_with_parents, stored_weight_bits
from minigpt.hardware.pricing import ENERGY_FIELDS, Area, Energy, Latency, Times
from minigpt.hardware.products import expanded
from minigpt.hardware.spec import HardwareSpec
from minigpt.hardware.unit import Unit, distinct_units, elements, unit

Draws = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A range that holds the spec's ``confidence`` share of the draws of its constants."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ComponentPpa:
    """One component's own share of a decode step, per token. latency_s: calibrated; the step is the sum."""

    path: str
    energy: Energy
    latency_s: float
    macs: float
    ops: Mapping[str, float]
    dram_bytes: float
    unit: UnitPpa | None


@dataclasses.dataclass(frozen=True)
class UnitPpa:
    """The same component as a pipelined unit of its own, beside what it costs in the system."""

    area_um2: float
    energy_per_element_pj: float
    energy_per_token_mj: float


@dataclasses.dataclass(frozen=True)
class Ppa:
    """The figures of one model on one machine. Decode figures are per token of a sequence; energy is shared by the
    batch.

    activations: DRAM bytes of one decode step per token; headline_activations names the way that energy and latency
    use. *_unverified_share: the part of the total that would be gone without the constants nobody verified. *_draws:
    the total under each draw of the constants; draw i is the same machine for every model.
    """

    hardware: str
    batch: int
    decode: Latency
    prefill: Latency
    energy: Energy
    prefill_energy: Energy
    area: Area
    activations: ActivationBytes
    headline_activations: str
    components: tuple[ComponentPpa, ...] = dataclasses.field(repr=False)
    decode_power_w: float
    energy_interval_mj: Interval
    latency_interval_s: Interval
    area_interval_mm2: Interval
    energy_unverified_share: float
    latency_unverified_share: float
    area_unverified_share: float
    energy_draws_mj: Draws = dataclasses.field(repr=False, compare=False)
    latency_draws_s: Draws = dataclasses.field(repr=False, compare=False)
    area_draws_mm2: Draws = dataclasses.field(repr=False, compare=False)

    @property
    def energy_per_token_mj(self) -> float:
        return self.energy.total_mj

    @property
    def area_mm2(self) -> float:
        return self.area.total_mm2


def price(spec: HardwareSpec, cost_of: Callable[[Work], Cost], *, context: int, batch: int = 1) -> Ppa:
    """A model's figures: prefill of ``context`` tokens from nothing, then one decode step that sees ``context`` keys.

    cost_of: the model's ``cost``. The works asked for fit the machine: its cache width, masked products as it does
    them.
    """
    work = Work(
        batch=batch, tokens=context, context=context, cache_bits=spec.memory.cache_bits, last_only=True,
        dense=not spec.matrix.skips_masked,
    )  # fmt: skip
    return ppa(spec, prefill=cost_of(work), decode=cost_of(dataclasses.replace(work, tokens=1)), batch=batch)


def ppa(spec: HardwareSpec, *, prefill: Cost, decode: Cost, batch: int = 1) -> Ppa:
    """Figures from two Cost trees: one prefill of the whole batch, one decode step (one token per sequence)."""
    constants = spec.all_constants
    step, first = _Call(spec, decode), _Call(spec, prefill)
    values, drawn, verified = nominal(constants), draw(constants, spec.draws, spec.seed), only_verified(constants)
    now, then = step.priced(values), first.priced(values)
    many, known = step.priced(drawn), step.priced(verified)
    components = step.components(now, values, batch)
    energy = Energy(**{name: math.fsum(getattr(c.energy, name) for c in components) for name in ENERGY_FIELDS})
    counted = [c.activations for _, _, c in step.parts]
    energy_draws = np.asarray(sum(e.total_mj for e in many.energies) / batch)
    area_draws = np.asarray(many.area.total_mm2)
    latency_draws = np.broadcast_to(np.asarray(many.latency.calibrated_s, dtype=float), energy_draws.shape)
    return Ppa(
        hardware=spec.name,
        batch=batch,
        decode=now.latency,
        prefill=then.latency,
        energy=energy,
        prefill_energy=Energy(**{n: math.fsum(getattr(e, n) for e in then.energies) for n in ENERGY_FIELDS}),
        area=now.area,
        activations=ActivationBytes(
            **{way: sum(getattr(a, way) for a in counted) / batch for way in ("unfused", "fused", "on_chip")}
        ),
        headline_activations=spec.memory.activations,
        components=components,
        decode_power_w=energy.total_mj * 1e-3 * batch / now.latency.calibrated_s if now.latency.calibrated_s else 0.0,
        energy_interval_mj=interval(energy_draws, spec.confidence),
        latency_interval_s=interval(latency_draws, spec.confidence),
        area_interval_mm2=interval(area_draws, spec.confidence),
        energy_unverified_share=_share_gone(energy.total_mj, sum(e.total_mj for e in known.energies) / batch),
        latency_unverified_share=_share_gone(now.latency.calibrated_s, known.latency.calibrated_s),
        area_unverified_share=_share_gone(now.area.total_mm2, known.area.total_mm2),
        energy_draws_mj=energy_draws,
        latency_draws_s=latency_draws,
        area_draws_mm2=area_draws,
    )


def interval(draws: Draws, confidence: float) -> Interval:
    """The central interval that holds ``confidence`` of the draws."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(low), high=float(high))


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One figure of a model over the baseline's, constants drawn once and shared: what a researcher may rely on.

    below: share of draws in which the model's figure is the smaller one (rank stability); a tie counts half.
    """

    ratio: float
    low: float
    high: float
    below: float


def ratio_to_baseline(value: float, draws: Draws, base: float, base_draws: Draws, confidence: float) -> Ratio:
    """The ratio of two models' figures on the same machine, drawn with the same constants."""
    ratios = draws / base_draws
    range_ = interval(ratios, confidence)
    below = float(np.mean(ratios < 1) + np.mean(ratios == 1) / 2)
    return Ratio(ratio=value / base, low=range_.low, high=range_.high, below=below)


@dataclasses.dataclass(frozen=True)
class _Priced:
    energies: list[Energy]
    times: list[Times]
    latency: Latency
    area: Area


class _Call:
    """One call (a prefill or a decode step) counted once, priced as often as there are sets of constants."""

    def __init__(self, spec: HardwareSpec, cost: Cost):
        self.spec = spec
        cost = expanded(cost, spec)
        walked = list(cost.walk())
        counted = fused_with_parents([path for path, _ in walked], [demand(own, spec) for _, own in walked])
        self.parts: list[tuple[str, Cost, Demand]] = [(*walk, c) for walk, c in zip(walked, counted, strict=True)]
        self.units: tuple[Unit, ...] = distinct_units(cost, spec)
        total = cost.total
        stored = stored_weight_bits(total, spec) if spec.memory.weights == "sram" else 0
        self.resident_bits = stored + (total.state_bits if spec.memory.cache == "sram" else 0)

    def priced(self, values: Mapping[str, Any]) -> _Priced:
        paths = [path for path, _, _ in self.parts]
        times = pricing.stream_into_parents(paths, [pricing.times(c, self.spec, values) for _, _, c in self.parts])
        area = pricing.area(self.spec, self.units, self.resident_bits, values)
        chip = area.total_mm2
        energies = [
            pricing.energy(c, self.spec, t.calibrated_s, chip, values)
            for (_, _, c), t in zip(self.parts, times, strict=True)
        ]
        return _Priced(energies, times, pricing.latency(times), area)

    def components(self, priced: _Priced, values: Mapping[str, float], batch: int) -> tuple[ComponentPpa, ...]:
        rows = []
        for (path, own, c), energy, times in zip(self.parts, priced.energies, priced.times, strict=True):
            bits = pricing.dram_weight_bits(c, self.spec) + pricing.dram_cache_bits(c, self.spec)
            rows.append(
                ComponentPpa(
                    path=path,
                    energy=Energy(**{name: getattr(energy, name) / batch for name in ENERGY_FIELDS}),
                    latency_s=times.calibrated_s,
                    macs=sum(c.macs.values()) / batch,
                    ops={name: count / batch for name, count in own.ops.items()},
                    dram_bytes=(bits / 8 + pricing.dram_activation_bytes(c, self.spec)) / batch,
                    unit=self._unit(own, values, batch),
                )
            )
        return tuple(rows)

    def _unit(self, own: Cost, values: Mapping[str, float], batch: int) -> UnitPpa | None:
        made = unit(own, self.spec)
        if made is None:
            return None
        each = made.energy_pj(values)
        return UnitPpa(
            area_um2=made.area_um2(values),
            energy_per_element_pj=each,
            energy_per_token_mj=each * elements(own) / batch * pricing.PJ_TO_MJ,
        )


def _share_gone(total: float, remaining: float) -> float:
    return 1 - remaining / total if total else 0.0
