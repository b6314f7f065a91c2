"""``minigpt check my_plugin``: hold variants to every contract, and say which they break."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from rich.table import Table
from rich.text import Text

from minigpt import registry
from minigpt.errors import UserError, did_you_mean
from minigpt.screen import console, plain_text
from minigpt.testing.cases import Case, all_cases, model_axes, model_variants
from minigpt.testing.contract import CONTRACTS, Contract

Variant = tuple[str, str]
COLUMNS = 4  # variants side by side in one table


@dataclasses.dataclass(frozen=True)
class Failure:
    """A contract that a case of a variant breaks, and how."""

    variant: Variant
    contract: str
    case: str
    sentence: str


def run(modules: Sequence[str], named: Sequence[str]) -> int:
    """Check the variants named, ``axis=name``, or else all that the modules register; returns the exit code, 1 when a
    contract is broken.

    modules: imported already. Raises UserError for a variant that is not there.
    """
    variants = chosen(modules, named)
    torch.set_num_threads(1)  # the models are small
    failures = check(variants)
    show(variants, failures)
    return 1 if failures else 0


def chosen(modules: Sequence[str], named: Sequence[str]) -> list[Variant]:
    """The variants named, or else all that the modules register."""
    if named:
        return [_variant(word) for word in named]
    if not modules:
        raise UserError("check: nothing to check. Name a module (my_plugin) or a variant (norm=rmsnorm)")
    found = [v for v in model_variants() if _is_of(registry.entry(*v).module, modules)]
    if not found:
        raise UserError(
            f"check: {', '.join(modules)} registers nothing that a model is made of "
            f"({', '.join(model_axes())}); other axes have no contracts"
        )
    return found


def check(variants: Sequence[Variant]) -> list[Failure]:
    """Every contract on every case of the variants; an exception of any kind breaks one."""
    failures: list[Failure] = []
    for variant in variants:
        for case in all_cases([variant]):
            for each in CONTRACTS.values():
                if each.applies(case) and (sentence := broken(each, case)):
                    failures.append(Failure(variant, each.name, str(case), sentence))
    return failures


def broken(contract: Contract, case: Case) -> str:
    """How a case breaks a contract; nothing if it does not."""
    try:
        contract.check(case)
    except AssertionError as error:
        return str(error) or "broken"
    except Exception as error:  # a variant may fail in any way; the table says how
        return f"{type(error).__name__}: {error}"
    return ""


def show(variants: Sequence[Variant], failures: Sequence[Failure]) -> None:
    """A table of contracts and variants, then every failure with its sentence, the first of each kind."""
    screen = console(soft_wrap=True, highlight=False)
    failed = {(f.variant, f.contract) for f in failures}
    for start in range(0, len(variants), COLUMNS):
        shown = variants[start : start + COLUMNS]
        table = Table("contract")
        for variant in shown:
            table.add_column(plain_text("=".join(variant)))
        for each in CONTRACTS.values():
            table.add_row(each.name, *(_cell(v, each, (v, each.name) in failed) for v in shown))
        screen.print(table)
    for variant, name in sorted(failed):
        mine = [f for f in failures if (f.variant, f.contract) == (variant, name)]
        more = f" (and {len(mine) - 1} more cases)" if len(mine) > 1 else ""
        head, tail = plain_text(f"{mine[0].case}: "), plain_text(f": {mine[0].sentence}{more}")
        screen.print(Text.assemble(head, (name, "bold"), tail))
    if not failed:
        screen.print(f"{len(variants)} variants hold all {len(CONTRACTS)} contracts")


def _cell(variant: Variant, contract: Contract, failed: bool) -> str:
    if failed:
        return "[red]FAIL[/red]"
    return "-" if variant[0] in contract.not_for else "pass"


def _variant(word: str) -> Variant:
    axis, _, name = word.partition("=")
    if axis not in model_axes():
        near = did_you_mean(axis, model_axes())
        raise UserError(f"check: there are no contracts for '{axis}'.{near}\n  choices: {', '.join(model_axes())}")
    return axis, registry.entry(axis, name).name


def _is_of(module: str, modules: Sequence[str]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in modules)
