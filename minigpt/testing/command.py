"""``minigpt check my_plugin``: hold variants to every contract, and say which they break."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minigpt import registry
from minigpt.errors import UserError
from minigpt.plugins import load_plugins
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


def main(arguments: Sequence[str]) -> int:
    """Check what the words name; returns the exit code, 1 when a contract is broken.

    Raises UserError for a module or a variant that is not there.
    """
    parser = argparse.ArgumentParser(
        prog="minigpt check",
        description="Hold variants to every contract: those a plugin registers, or those named.",
        epilog="examples:\n  minigpt check my_plugin\n  minigpt check my_plugin norm=mine\n"
        "  minigpt check norm=rmsnorm",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="MODULE or AXIS=NAME", help="plugins to import; variants to check")
    words = parser.parse_args(list(arguments)).words
    modules = [word for word in words if "=" not in word]
    load_plugins(modules)
    variants = chosen(modules, [word for word in words if "=" in word])
    torch.set_num_threads(1)  # the models are small
    failures = check(variants)
    show(variants, failures)
    return 1 if failures else 0


def chosen(modules: Sequence[str], named: Sequence[str]) -> list[Variant]:
    """The variants named, or else all that the modules register."""
    if named:
        return [_variant(word) for word in named]
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
    console = Console(soft_wrap=True)
    failed = {(f.variant, f.contract) for f in failures}
    for start in range(0, len(variants), COLUMNS):
        shown = variants[start : start + COLUMNS]
        table = Table("contract", *("=".join(v) for v in shown))
        for each in CONTRACTS.values():
            table.add_row(each.name, *(_cell(v, each, (v, each.name) in failed) for v in shown))
        console.print(table)
    for variant, name in sorted(failed):
        mine = [f for f in failures if (f.variant, f.contract) == (variant, name)]
        more = f" (and {len(mine) - 1} more cases)" if len(mine) > 1 else ""
        console.print(f"{escape(mine[0].case)}: [bold]{name}[/bold]: {escape(mine[0].sentence)}{more}")
    if not failed:
        console.print(f"{len(variants)} variants hold all {len(CONTRACTS)} contracts")


def _cell(variant: Variant, contract: Contract, failed: bool) -> str:
    if failed:
        return "[red]FAIL[/red]"
    return "-" if variant[0] in contract.not_for else "pass"


def _variant(word: str) -> Variant:
    axis, _, name = word.partition("=")
    if axis not in model_axes():
        raise UserError(f"check: {word}: contracts hold for {', '.join(model_axes())}; there are none for '{axis}'")
    return axis, registry.entry(axis, name).name


def _is_of(module: str, modules: Sequence[str]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in modules)
