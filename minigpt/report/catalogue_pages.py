"""The catalogue as Markdown: a page for every axis, of what its variants are, cost and reached."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path

from minigpt import catalogue, registry
from minigpt.catalogue import Variant
from minigpt.files import write_text
from minigpt.hardware import HardwareSpec
from minigpt.hardware import spec as machines
from minigpt.report.catalogue_figures import Comparison, Figures, Reached, figures, store, stored
from minigpt.report.numbers import count, number
from minigpt.schema import options
from minigpt.screen import visible

MADE = "<!-- Made by `make docs` from the registry and results/: change those. -->"
_COSTS = (
    "parameters",
    "prefill_flops",
    "decode_flops",
    "state_bytes",
    "energy_mj",
    "own_uj",
    "unit_area_um2",
    "unit_energy_pj",
)
_TITLES = (
    "parameters",
    "FLOPs a token, prefill",
    "decode at 1,024",
    "state bytes",
    "mJ a token",
    "own uJ",
    "unit um2",
    "unit pJ",
)


@options
class CatalogueConfig:
    """What to write.

    out: the folder of the pages. results: folders of studies over one axis and the seed, whose losses are kept in
    <out>/results and shown on the page of that axis. axes: only these; all where empty. hardware: the machine of
    energies and areas, in conf/hardware. plugins: modules to import first, which register more.
    """

    out: str = "docs/catalogue"
    results: list[str] = ()  # type: ignore[assignment]
    axes: list[str] = ()  # type: ignore[assignment]
    hardware: str = "edge_16nm"
    plugins: list[str] = ()  # type: ignore[assignment]


def write_pages(config: CatalogueConfig) -> list[Path]:
    """Keep the results, write the pages; returns the files."""
    folder = Path(config.out)
    for study in config.results:
        store(Path(study), folder)
    for axis in config.axes:
        registry.axis_named(axis)
    files = {f"{axis}.md": page(axis, config.hardware, folder) for axis in config.axes or registry.axes()}
    if not config.axes:
        files["README.md"] = index()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_text(folder / name, text)
    return [folder / name for name in files]


def index() -> str:
    """The page that leads to the others."""
    rows = []
    for axis in registry.axes():
        declared = registry.axis_named(axis)
        names = ", ".join(f"`{name}`" for name in registry.names(axis))
        rows.append(
            (f"[{axis}]({axis}.md)", declared.scope, f"`{declared.default}`" if declared.default else "-", names)
        )
    total = sum(len(registry.names(axis)) for axis in registry.axes())
    return _joined(
        MADE,
        "# The catalogue",
        f"{total} names on {len(rows)} axes. A name is typed where its axis stands, `softmax=consmax "
        "softmax.per_head=true`, in YAML as on the command line; `minigpt components <axis>` shows the same on a "
        "terminal.",
        _table(("axis", "chosen by", "default", "names"), rows),
    )


def page(axis: str, hardware: str, folder: Path) -> str:
    """One axis: its names, what each costs, what each reached, and each in full."""
    variants = catalogue.variants(axis)
    declared = registry.axis_named(axis)
    priced = _priced(axis, variants, machines.load(hardware))
    comparison = stored(folder, axis)
    sections = [
        MADE,
        f"# {axis}",
        _first_words(axis),
        f"`{axis}=<name>`, chosen by {_CHOSEN_BY[declared.scope]}"
        + (f"; `{declared.default}` where nothing is said." if declared.default else "."),
        _table(("name", "what it is"), [(_linked(v.name), _text(v.summary)) for v in variants]),
    ]
    if comparison is not None:
        machine, words = machines.load(hardware), [row.choice for row in comparison.rows]
        others = [word for word in words if priced and word not in priced and not _spelt_out(word)]
        sections += _compared(comparison, priced | {word: figures(axis, word, machine) for word in others})
    if priced:
        sections += _costs(priced, hardware)
    sections += ["## Each in full", *(_in_full(variant) for variant in variants)]
    return _joined(*sections)


_CHOSEN_BY = {
    "block": "every block", "model": "the model, once", "run": "a training run", "list": "the model, as a list",
    "data": "the preparation of data, as steps",
}  # fmt: skip


def _priced(axis: str, variants: Iterable[Variant], hardware: HardwareSpec) -> dict[str, Figures | str]:
    if axis not in {*registry.axes("block"), *registry.axes("model")} - {"init"}:
        return {}
    return {variant.name: figures(axis, variant.name, hardware) for variant in variants}


def _costs(priced: dict[str, Figures | str], hardware: str) -> list[str]:
    shown = {name: found for name, found in priced.items() if isinstance(found, Figures)}
    columns = [i for i, key in enumerate(_COSTS) if any(getattr(f, key) is not None for f in shown.values())]
    rows = [(_linked(name), *(_cost(found, _COSTS[i]) for i in columns)) for name, found in shown.items()]
    refused = [f"* `{name}`: {_text(why)}" for name, why in priced.items() if isinstance(why, str)]
    return [
        "## What they cost",
        "A model of GPT-2's size (12 layers of 768, 12 heads, 1,024 tokens, 50,257 words) with the house's defaults "
        "around the variant: its parameters; FLOPs of its matrix products for one token, the mean of a prefill of "
        "1,024 and that of the decode step that sees them; the state of one sequence then; energy of that step on "
        f"`{hardware}`, and what of it the variant's own operations take, without its maps and other parts; and, for a "
        "function that needs one, a unit of its own. Counts are held to what torch dispatches by the contracts; "
        "energies and areas are of the model in `minigpt/hardware/`.",
        _table(("name", *(_TITLES[i] for i in columns)), rows),
        *(["Not at these sizes with nothing else said:", "\n".join(refused)] if refused else []),
    ]


def _cost(found: Figures, key: str) -> str:
    value = getattr(found, key)
    if value is None:
        return "-"
    if key == "energy_mj":
        return number(value, 5)
    return number(value, 3) if key == "own_uj" or key.startswith("unit_") else count(value)


def _compared(comparison: Comparison, priced: dict[str, Figures | str]) -> list[str]:
    default = registry.axis_named(comparison.axis).default
    rows = []
    for row in comparison.rows:
        found = priced.get(row.choice)
        costs = [_cost(found, key) if isinstance(found, Figures) else "-" for key in _COSTS]
        rows.append(
            (_choice(row, comparison.axis), f"{row.loss:.4f}", _difference(row, default), row.verdict, *costs[1:])
        )
    return [
        "## Compared",
        f"`{comparison.command}`: {comparison.budget}. Validation loss in nats a token, mean over the seeds; the "
        f"difference from `{default}` is paired by seed, with Student's 95 % interval: a tie where it holds zero. "
        "Small models and short runs: what wins here has won here. Costs are those of GPT-2's size, below.",
        _table(("name", "loss", f"beside {default}", "", *_TITLES[1:]), rows),
        *_advice(comparison, priced),
    ]


def _difference(row: Reached, default: str | None) -> str:
    if row.difference is None:
        lost = [seed for seed, loss in row.losses.items() if loss is None]
        return f"seed {', '.join(lost)} did not end" if lost else ("" if row.choice == default else "-")
    return f"{row.difference[0]:+.4f} ± {row.difference[1]:.4f}"


def _advice(comparison: Comparison, priced: dict[str, Figures | str]) -> list[str]:
    """The choices that nothing beats in loss and energy at once: of a function its own, else that of a token."""
    known = [(row, f) for row in comparison.rows if isinstance(f := priced.get(row.choice), Figures)]
    known = [(row, found) for row, found in known if row.loss != float("inf")]
    key = "own_uj" if comparison.axis in _FUNCTIONS else "energy_mj"
    front: list[tuple[Reached, Figures]] = []
    for row, found in known:  # the lowest loss first
        if not front or getattr(found, key) < getattr(front[-1][1], key):
            front.append((row, found))
    lines = [
        f"* `{row.choice}`: loss {row.loss - front[0][0].loss:+.4f} from the best, {_in_words(found, key)}"
        for row, found in front
    ]
    return [
        "### Which one to put in silicon" if key == "own_uj" else "### Which one to take",
        f"From the lowest loss to the least energy{' of its own' if key == 'own_uj' else ''}; what is not listed has a "
        "higher loss than one of these and takes more. Where the table says tie, the seeds cannot tell.",
        "\n".join(lines),
    ] * bool(lines)


_FUNCTIONS = ("softmax", "norm", "activation")


def _in_words(found: Figures, key: str) -> str:
    if key == "energy_mj":
        return f"{_cost(found, key)} mJ a token"
    unit = "no unit of its own needed"
    if found.unit_energy_pj is not None:
        area, energy = (_cost(found, each) for each in ("unit_area_um2", "unit_energy_pj"))
        unit = f"a unit of {area} um2 and {energy} pJ an element"
    return f"{_cost(found, key)} uJ a token, {unit}"


def _in_full(variant: Variant) -> str:
    found = catalogue.abilities(variant)
    lines = [f"### {variant.name}", inspect.cleandoc(variant.doc).replace("``", "`")]
    if variant.options:
        rows = [(f"`{o.name}`", _text(o.values), f"`{_plain(o.default)}`") for o in variant.options]
        lines.append(_table(("option", "values", "default"), rows))
    if found.learned:
        learned = ", ".join(f"`{name}` {tuple(shape)}" for name, shape in found.learned.items())
        sizes = f"d_model {catalogue.EXAMPLE['d_model']}, {catalogue.EXAMPLE['n_head']} heads"
        lines.append(f"Learns, at {sizes}: {learned}.")
    lines.append(f"Source: `{variant.module.replace('.', '/')}.py`")
    return _joined(*lines).rstrip()


def _first_words(axis: str) -> str:
    """What the axis' base says of itself."""
    package = registry.axis_named(axis).package
    doc = (importlib.import_module(f"{package}.base").__doc__ if package else "") or ""
    return doc.strip().split("\n\n")[0].replace("\n", " ")


def _choice(row: Reached, axis: str) -> str:
    return _linked(row.choice) if registry.has(axis, row.choice) else f"`{_text(row.choice)}`"


def _spelt_out(choice: str) -> bool:
    """Whether a choice is a component with its options, no name or preset."""
    return choice.startswith("{")


def _linked(name: str) -> str:
    return f"[{name}](#{name})"


def _plain(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _text(words: str) -> str:
    return visible(words).replace("|", "\\|").replace("<", "&lt;")


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _joined(*sections: str) -> str:
    return "\n\n".join(section for section in sections if section) + "\n"
