"""The console command: ``minigpt <command> [key=value ...]``, also ``python -m minigpt``."""

from __future__ import annotations

import importlib
import sys

from minigpt.cli.entry import reported_errors, version
from minigpt.errors import unknown
from minigpt.screen import say

COMMANDS = {
    "train": ("train", "train; any part by name: attention=linear norm=dyt"),
    "sweep": ("train", "train every combination: softmax=softmax,consmax seed=0,1 (train -m)"),
    "search": ("search", "greedy search over sizes and names"),
    "sample": ("sample", "continue a prompt with a trained model"),
    "evaluate": ("evaluate", "score trained models on tasks of lm-evaluation-harness, or our own suite"),
    "prepare": ("prepare", "text to tokens"),
    "report": ("report", "report ppa: what runs cost on hardware, and reach; report curves: their losses, drawn"),
    "inspect": ("inspect", "runs and checkpoints in a table"),
    "check": ("check", "hold variants to the contracts, those of a plugin too: minigpt check my_plugin"),
    "import": ("import_", "another project's model as a checkpoint: a Hugging Face folder, nanoGPT's ckpt.pt"),
    "export": ("export", "a trained model for other projects: format=hf, gguf, onnx"),
    "components": ("components", "what is registered: names, papers, options, what each learns and can do"),
}
"""Command -> (module of this room, a line about it)."""

_REPORTS = {
    "ppa": ("report", "what runs cost on a machine, against what they reach"),
    "curves": ("curves", "losses and other figures of runs, drawn over steps, tokens or seconds"),
    "catalogue": ("catalogue_report", "every variant: what it is, what it costs, what it reached, as pages"),
}


def main(arguments: list[str] | None = None) -> None:
    """Read a command line (None: the process's) and do what it says; exit code 2 for a mistake in it."""
    given = sys.argv[1:] if arguments is None else arguments
    with reported_errors():
        if not given or given[0] in ("-h", "--help"):
            print(_page())
            sys.exit(0 if given else 2)
        if given[0] == "--version":
            print(version())
            return
        command, *rest = given
        if command not in COMMANDS:
            raise unknown("minigpt", command, "there is no command", COMMANDS)
        name, module_name = f"minigpt {command}", COMMANDS[command][0]
        if command == "report":
            report = rest.pop(0) if rest else "--help"
            if report in ("-h", "--help"):
                for each, (_, what) in _REPORTS.items():
                    say(f"minigpt report {each:<8} {what}")
                sys.exit(0)
            if report not in _REPORTS:
                raise unknown("minigpt report", report, "there is no report", _REPORTS)
            name += f" {report}"
            module_name = _REPORTS[report][0]
        sys.argv = [name, *(["-m"] if command == "sweep" else []), *rest]
        module = importlib.import_module(f"minigpt.cli.{module_name}")
    module.main()


def _page() -> str:
    lines = [
        "minigpt: swap any part of a GPT by name, train it, and see what the swap costs.",
        "",
        "minigpt <command> [key=value ...]",
        *(f"  {name:<12} {words}" for name, (_, words) in COMMANDS.items()),
        "",
        "Each has --help. In a checkout, train.py, sample.py, hyperparam_search.py, data/prepare.py,",
        "analysis/ppa_report.py, analysis/curves_report.py and analysis/checkpoint_analysis/inspect_ckpts.py",
        "are the same commands.",
    ]
    return "\n".join(lines)
