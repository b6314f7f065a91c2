"""The figures of a PPA report: runs and a machine in, rows of named fields out. Every output file is written from
these rows.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minigpt.cost import Cost, Work
from minigpt.errors import unknown
from minigpt.hardware import ComponentPpa, HardwareSpec, Ppa, Ratio, price, ratio_to_baseline
from minigpt.hardware.pricing import AREA_FIELDS, ENERGY_FIELDS
from minigpt.training.record import RunRecord


@dataclasses.dataclass(frozen=True)
class PricedVariant:
    """What a sweep compares: runs that differ in their seed only, and what their model costs."""

    name: str
    runs: tuple[RunRecord, ...]
    parameters: int
    flops_per_token: int
    state_bytes: float
    context: int
    ppa: Ppa


@dataclasses.dataclass(frozen=True)
class VariantRow:
    """One line of the summary. Energies and latencies are of one decode step at ``context``, per token.

    *_std: sample standard deviation over seeds, None for one run. *_ratio: over the baseline, *_ratio_low and
    *_ratio_high with the constants of the machine drawn and shared; *_below: share of draws in which this variant is
    the smaller one.
    """

    variant: str
    seeds: int
    val_loss: float
    val_loss_std: float | None
    bits_per_byte: float | None
    bits_per_byte_std: float | None
    parameters: int
    context: int
    flops_per_token: int
    kv_bytes_per_token: float
    energy_mj: float
    energy_low_mj: float
    energy_high_mj: float
    energy_ratio: float
    energy_ratio_low: float
    energy_ratio_high: float
    energy_below: float
    latency_bound_ms: float
    latency_ms: float
    latency_serial_ms: float
    latency_ratio: float
    latency_ratio_low: float
    latency_ratio_high: float
    prefill_ms: float
    prefill_energy_mj: float
    area_mm2: float
    area_low_mm2: float
    area_high_mm2: float
    area_ratio: float
    area_ratio_low: float
    area_ratio_high: float
    decode_power_w: float
    energy_unverified_share: float
    latency_unverified_share: float
    area_unverified_share: float
    activation_bytes_unfused: float
    activation_bytes_fused: float
    activation_bytes_on_chip: float
    arithmetic_mj: float
    vector_mj: float
    special_mj: float
    control_mj: float
    sram_mj: float
    dram_weights_mj: float
    dram_cache_mj: float
    dram_activations_mj: float
    leakage_mj: float
    array_mm2: float
    vector_mm2: float
    special_mm2: float
    sram_mm2: float
    phy_mm2: float
    other_mm2: float
    pareto: bool
    baseline: bool


@dataclasses.dataclass(frozen=True)
class ComponentRow:
    """A component of a variant, all layers together, per decoded token. The rows of a variant add up to its totals."""

    variant: str
    component: str
    instances: int
    energy_mj: float
    energy_share: float
    latency_ms: float
    macs: float
    scalar_ops: float
    dram_bytes: float


@dataclasses.dataclass(frozen=True)
class UnitRow:
    """A row-wise component as a unit of its own, beside what it does to the system."""

    variant: str
    component: str
    unit_area_um2: float
    unit_energy_per_element_pj: float
    unit_energy_per_token_uj: float
    component_energy_per_token_uj: float
    component_latency_us: float
    system_energy_per_token_uj: float
    unit_share_of_system: float


@dataclasses.dataclass(frozen=True)
class StabilityRow:
    """Share of draws in which ``variant`` takes less energy per token than ``than``; a tie counts half."""

    variant: str
    than: str
    below: float


@dataclasses.dataclass(frozen=True)
class LeftOutRow:
    """A run without a result, and why."""

    run: str
    variant: str
    status: str
    reason: str


@dataclasses.dataclass(frozen=True)
class AssumptionRow:
    """A constant of the machine."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str
    verified: bool


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything a report says."""

    hardware: HardwareSpec
    batch: int
    baseline: str
    rows: tuple[VariantRow, ...]
    components: tuple[ComponentRow, ...]
    units: tuple[UnitRow, ...]
    stability: tuple[StabilityRow, ...]
    left_out: tuple[LeftOutRow, ...]
    assumptions: tuple[AssumptionRow, ...]


def priced(
    name: str, runs: Sequence[RunRecord], cost_of: Any, spec: HardwareSpec, context: int, batch: int
) -> PricedVariant:
    """A variant with its figures. cost_of: the model's ``cost``, Work -> Cost."""
    step: Cost = cost_of(
        Work(batch=1, tokens=1, context=context, cache_bits=spec.memory.cache_bits, last_only=True)
    ).total
    return PricedVariant(
        name=name,
        runs=tuple(runs),
        parameters=step.params,
        flops_per_token=step.flops,
        state_bytes=step.state_bits / 8,
        context=context,
        ppa=price(spec, cost_of, context=context, batch=batch),
    )


def report(
    variants: Sequence[PricedVariant],
    left_out: Sequence[LeftOutRow],
    spec: HardwareSpec,
    batch: int,
    baseline: str | None,
) -> Report:
    """All rows. baseline: the name of a variant or of one of its runs; None is the first."""
    base = _baseline(variants, baseline)
    losses = {v.name: statistics.fmean(_known(v, "val_loss")) for v in variants}
    front = pareto_front([(v.ppa.energy_per_token_mj, losses[v.name]) for v in variants])
    return Report(
        hardware=spec,
        batch=batch,
        baseline=base.name,
        rows=tuple(_row(v, base, spec, pareto) for v, pareto in zip(variants, front, strict=True)),
        components=tuple(row for v in variants for row in component_rows(v.name, v.ppa)),
        units=tuple(row for v in variants for row in unit_rows(v.name, v.ppa)),
        stability=tuple(
            StabilityRow(variant=a.name, than=b.name, below=_compared(a, b, "energy", spec).below)
            for a in variants
            for b in variants
            if a is not b
        ),
        left_out=tuple(left_out),
        assumptions=tuple(
            AssumptionRow(name=name, **{f.name: getattr(constant, f.name) for f in dataclasses.fields(constant)})
            for name, constant in spec.all_constants.items()
        ),
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, loss) points no other beats: lower or equal in both and lower in one."""

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    return [not any(beats(other, point) for other in points) for point in points]


def component_rows(variant: str, ppa: Ppa) -> list[ComponentRow]:
    """The breakdown with layers put together: blocks.0.attention and blocks.1.attention are blocks.*.attention."""
    total = ppa.energy_per_token_mj
    rows = []
    for name, parts in _by_kind(ppa.components).items():
        energy = sum(p.energy.total_mj for p in parts)
        row = ComponentRow(
            variant=variant,
            component=name or "model",
            instances=len(parts),
            energy_mj=energy,
            energy_share=energy / total if total else 0.0,
            latency_ms=sum(p.latency_s for p in parts) * 1e3,
            macs=sum(p.macs for p in parts),
            scalar_ops=sum(sum(p.ops.values()) for p in parts),
            dram_bytes=sum(p.dram_bytes for p in parts),
        )
        if row.energy_mj or row.macs or row.scalar_ops or row.latency_ms:
            rows.append(row)
    return rows


def unit_rows(variant: str, ppa: Ppa) -> list[UnitRow]:
    """Unit level beside system level, for every component that a special unit would do."""
    rows = []
    for name, parts in _by_kind(ppa.components).items():
        units = [p.unit for p in parts if p.unit is not None]
        if not units:
            continue
        alone = sum(u.energy_per_token_mj for u in units)
        rows.append(
            UnitRow(
                variant=variant,
                component=name,
                unit_area_um2=max(u.area_um2 for u in units),
                unit_energy_per_element_pj=max(u.energy_per_element_pj for u in units),
                unit_energy_per_token_uj=alone * 1e3,
                component_energy_per_token_uj=sum(p.energy.total_mj for p in parts) * 1e3,
                component_latency_us=sum(p.latency_s for p in parts) * 1e6,
                system_energy_per_token_uj=ppa.energy_per_token_mj * 1e3,
                unit_share_of_system=alone / ppa.energy_per_token_mj,
            )
        )
    return rows


def _by_kind(components: Iterable[ComponentPpa]) -> dict[str, list[ComponentPpa]]:
    kinds: dict[str, list[ComponentPpa]] = {}
    for component in components:
        kinds.setdefault(re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", component.path), []).append(component)
    return kinds


def _baseline(variants: Sequence[PricedVariant], name: str | None) -> PricedVariant:
    if name is None:
        return variants[0]
    for variant in variants:
        if name in (variant.name, *(run.name for run in variant.runs)):
            return variant
    raise unknown("baseline", name, "no variant or run with a result is called", [v.name for v in variants])


def _known(variant: PricedVariant, field: str) -> list[float]:
    return [value for run in variant.runs if (value := getattr(run, field)) is not None]


def _mean_and_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def _compared(variant: PricedVariant, base: PricedVariant, what: str, spec: HardwareSpec) -> Ratio:
    a, b = variant.ppa, base.ppa
    figures = {
        "energy": (a.energy_per_token_mj, a.energy_draws_mj, b.energy_per_token_mj, b.energy_draws_mj),
        "latency": (a.decode.calibrated_s, a.latency_draws_s, b.decode.calibrated_s, b.latency_draws_s),
        "area": (a.area_mm2, a.area_draws_mm2, b.area_mm2, b.area_draws_mm2),
    }
    return ratio_to_baseline(*figures[what], spec.confidence)


def _ratios(variant: PricedVariant, base: PricedVariant, spec: HardwareSpec) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for what in ("energy", "latency", "area"):
        c = _compared(variant, base, what, spec)
        found |= {f"{what}_ratio": c.ratio, f"{what}_ratio_low": c.low, f"{what}_ratio_high": c.high}
        if what == "energy":
            found["energy_below"] = c.below
    return found


def _row(variant: PricedVariant, base: PricedVariant, spec: HardwareSpec, pareto: bool) -> VariantRow:
    p = variant.ppa
    loss, loss_std = _mean_and_std(_known(variant, "val_loss"))
    bits, bits_std = _mean_and_std(_known(variant, "bits_per_byte"))
    assert loss is not None  # grouped() lets only runs with a loss through
    return VariantRow(
        variant=variant.name,
        seeds=len(variant.runs),
        val_loss=loss,
        val_loss_std=loss_std,
        bits_per_byte=bits,
        bits_per_byte_std=bits_std,
        parameters=variant.parameters,
        context=variant.context,
        flops_per_token=variant.flops_per_token,
        kv_bytes_per_token=variant.state_bytes / variant.context,
        energy_mj=p.energy_per_token_mj,
        energy_low_mj=p.energy_interval_mj.low,
        energy_high_mj=p.energy_interval_mj.high,
        latency_bound_ms=p.decode.bound_s * 1e3,
        latency_ms=p.decode.calibrated_s * 1e3,
        latency_serial_ms=p.decode.serial_s * 1e3,
        prefill_ms=p.prefill.calibrated_s * 1e3,
        prefill_energy_mj=p.prefill_energy.total_mj,
        area_mm2=p.area_mm2,
        area_low_mm2=p.area_interval_mm2.low,
        area_high_mm2=p.area_interval_mm2.high,
        decode_power_w=p.decode_power_w,
        energy_unverified_share=p.energy_unverified_share,
        latency_unverified_share=p.latency_unverified_share,
        area_unverified_share=p.area_unverified_share,
        activation_bytes_unfused=p.activations.unfused,
        activation_bytes_fused=p.activations.fused,
        activation_bytes_on_chip=p.activations.on_chip,
        pareto=pareto,
        baseline=variant is base,
        **_ratios(variant, base, spec),
        **{name: getattr(p.energy, name) for name in ENERGY_FIELDS},
        **{name: getattr(p.area, name) for name in AREA_FIELDS},
    )
